"""Text of the README that goes with the samples."""

README = """# Sample data

Synthetic brain MR: {cases} cases of FLAIR (`CASE_0000`) and T1 (`CASE_0001`) at {spacing:g} mm with
white-matter lesions, in nnU-Net raw layout. **No patient is involved**, and nothing here says
anything about how a model does on patients.

| folder | holds |
|---|---|
| `imagesTr`, `labelsTr` | training cases and their references (lesion = 1) |
| `imagesTs`, `labelsTs` | test cases, made alike |
| `anatomy` | region masks of every case, see below |

| region mask | holds |
|---|---|
| `CASE_wm` | cerebral white matter, where lesions may lie |
| `CASE_cortex` | cerebral cortex |
| `CASE_ventricles` | lateral and third ventricles |
| `CASE_infratentorial` | brainstem and cerebellum |

## How they are made

`segpipe samples FOLDER --cases {cases} --seed {seed}` writes the same files again, at 1.5 mm (code
in `segpipe/samples/`).

1. The MNI152 template is deformed smoothly, a little different in each case: size, pose, shape,
   width of the ventricles, folds and atrophy of the cortex. The result stays in MNI152 space.
2. Tissues get the contrast of FLAIR (dark fluid, cortex a little brighter than white matter) and
   of T1, with slow and fine variation.
3. Lesions grow in white matter, many of them at the ventricles and some confluent: irregular
   shapes with soft borders, log-normal sizes, bright on FLAIR, grey on T1. The last case of each
   split of three or more has none.
4. **Distractors** are as bright on FLAIR and are *not* in the reference: patches of cortex, choroid
   plexus, flow in the cisterns, septum, rim of the brain, deep grey matter. Spots in brainstem,
   cerebellum and temporal poles are made exactly like lesions; only their place tells them apart.
   A global threshold therefore fails, and a plainly trained network reports false-positive regions.
5. Blur, bias field, Rician noise, and rounding to few grey levels (uint8) that keeps files small.
   Outside the brain voxels are 0.

Region masks come from the deformed template alone. They know nothing of the lesions, nor of the
folds that were added after the deformation, so they are about as wrong as a good registration.

## Source and licence of the template

The template is the T1, grey-matter and white-matter map of the ICBM152 2009a nonlinear symmetric
atlas (MNI152) in the form that nilearn ships (`nilearn.datasets.load_mni152_template`,
`load_mni152_gm_template`, `load_mni152_wm_template`). nilearn is under the BSD 3-Clause licence.
Its own description of the atlas gives the licence as "unknown"; the authors
(https://www.bic.mni.mcgill.ca/ServicesAtlases/ICBM152NLin2009) publish it with this notice:

> Copyright (C) 1993-2009 Louis Collins, McConnell Brain Imaging Centre, Montreal Neurological
> Institute, McGill University. Permission to use, copy, modify, and distribute this software and
> its documentation for any purpose and without fee is hereby granted, provided that the above
> copyright notice appear in all copies. The authors and McGill University make no representations
> about the suitability of this software for any purpose. It is provided "as is" without express or
> implied warranty. The authors are not responsible for any data loss, equipment damage, property
> loss, or injury to subjects or patients resulting from the use or misuse of this software package.

Please cite:

- Fonov V, Evans AC, Botteron K, Almli CR, McKinstry RC, Collins DL. Unbiased average
  age-appropriate atlases for pediatric studies. NeuroImage 54 (2011) 313-327.
  https://doi.org/10.1016/j.neuroimage.2010.07.033
- Fonov VS, Evans AC, McKinstry RC, Almli CR, Collins DL. Unbiased nonlinear average age-appropriate
  brain templates from birth to adulthood. NeuroImage 47 (2009) S102.
  https://doi.org/10.1016/S1053-8119(09)70884-5

What was added to the template by segpipe comes under segpipe's own licence, Apache-2.0.
"""
