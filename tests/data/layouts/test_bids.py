import pytest

from segpipe.config import DataConfig
from segpipe.data.layouts import open_dataset
from segpipe.errors import DataError


@pytest.fixture
def root(tmp_path, save, scan, mask):
    for session in ("sub-01/ses-a", "sub-01/ses-b", "sub-02"):
        stem = session.replace("/", "_")
        for suffix in ("FLAIR", "T1w"):
            save(tmp_path / session / f"anat/{stem}_{suffix}.nii.gz", scan())
        derived = tmp_path / "derivatives/expert" / session
        save(derived / f"anat/{stem}_dseg.nii.gz", mask)
    (tmp_path / "participants.tsv").write_text(
        "participant_id\tage\tsex\nsub-01\t34\tF\nsub-02\tn/a\tM\n"
    )
    return tmp_path


def test_sessions_are_cases_and_subjects_are_patients(root):
    dataset = open_dataset(DataConfig(root=root))
    assert dataset.layout == "bids"
    assert dataset.channels == ("FLAIR", "T1w")
    assert dataset.labels == {"lesion": 1}
    assert [(c.id, c.patient) for c in dataset.cases] == [
        ("sub-01_ses-a", "sub-01"),
        ("sub-01_ses-b", "sub-01"),
        ("sub-02", "sub-02"),
    ]
    assert dataset.cases[1].attributes == {"age": "34", "sex": "F", "session": "ses-b"}
    assert dataset.cases[2].attributes == {"sex": "M"}
    assert dataset.cases[1].channels[0].path == (
        root / "sub-01/ses-b/anat/sub-01_ses-b_FLAIR.nii.gz"
    )
    assert dataset.cases[2].reference == (
        root / "derivatives/expert/sub-02/anat/sub-02_dseg.nii.gz"
    )


def test_images_beside_the_sessions_of_a_subject_are_a_case_of_their_own(root, save, scan):
    save(root / "sub-01/anat/sub-01_FLAIR.nii.gz", scan())
    save(root / "sub-01/anat/sub-01_T1w.nii.gz", scan())
    dataset = open_dataset(DataConfig(root=root))
    assert [(c.id, c.patient) for c in dataset.cases][:3] == [
        ("sub-01", "sub-01"),
        ("sub-01_ses-a", "sub-01"),
        ("sub-01_ses-b", "sub-01"),
    ]


def faults(root):
    dataset = open_dataset(DataConfig(root=root))
    return [[fault.problem for fault in case.faults.values()] for case in dataset.cases]


def test_links_out_of_the_dataset_are_faults_of_their_sessions(root, tmp_path_factory, save, scan):
    outside = save(tmp_path_factory.mktemp("outside") / "a.nii.gz", scan())
    image = root / "sub-01/ses-a/anat/sub-01_ses-a_T1w.nii.gz"
    image.unlink(missing_ok=True)
    image.symlink_to(outside)
    mask = root / "derivatives/expert/sub-02/anat/sub-02_dseg.nii.gz"
    mask.unlink()
    mask.symlink_to(outside)
    assert faults(root) == [
        ["a path that leaves the dataset"],
        [],
        ["a path that leaves the dataset"],
    ]


def test_configured_channels_may_carry_entities(root, save, scan):
    save(root / "sub-02/anat/sub-02_acq-3D_FLAIR.nii.gz", scan())
    assert faults(root) == [[], [], ["several FLAIR images"]]
    dataset = open_dataset(DataConfig(root=root, channels=("acq-3D_FLAIR",)))
    assert dataset.cases[2].channels[0].path.name == "sub-02_acq-3D_FLAIR.nii.gz"
    assert dataset.cases[0].channels[0].path.name == "sub-01_ses-a_acq-3D_FLAIR.nii.gz"


def test_lesion_masks_go_before_other_masks(root, save, mask):
    derived = root / "derivatives/expert/sub-02"
    save(derived / "anat/sub-02_desc-brain_mask.nii.gz", mask)
    assert open_dataset(DataConfig(root=root)).cases[2].reference.name == "sub-02_dseg.nii.gz"
    save(root / "derivatives/other/sub-02/sub-02_label-lesion_mask.nii.gz", mask)
    found = open_dataset(DataConfig(root=root)).cases[2].reference
    assert found == root / "derivatives/other/sub-02/sub-02_label-lesion_mask.nii.gz"
    save(derived / "sub-02_lesions.nii.gz", mask)
    assert faults(root) == [[], [], ["several masks"]]
    assert open_dataset(DataConfig(root=root)).cases[2].reference is not None  # so it is scored


def test_masks_beside_the_images_are_no_channels(root, save, mask):
    (root / "derivatives/expert/sub-02/anat/sub-02_dseg.nii.gz").unlink()
    assert open_dataset(DataConfig(root=root)).cases[2].reference is None
    save(root / "sub-02/anat/sub-02_FLAIR_mask.nii.gz", mask)
    dataset = open_dataset(DataConfig(root=root))
    assert dataset.channels == ("FLAIR", "T1w")
    assert dataset.cases[2].reference is None  # the masks of this dataset are named _dseg
    for path in root.glob("derivatives/**/*_dseg.nii.gz"):
        path.unlink()
    dataset = open_dataset(DataConfig(root=root))
    assert dataset.cases[2].reference == root / "sub-02/anat/sub-02_FLAIR_mask.nii.gz"


def test_a_mask_of_anatomy_is_nobody_s_reference(root, save, mask):
    derived = root / "derivatives/expert/sub-02/anat"
    (derived / "sub-02_dseg.nii.gz").unlink()
    for name in ("desc-brain_mask", "space-T1w_brainmask", "desc-aseg_dseg"):
        save(derived / f"sub-02_{name}.nii.gz", mask)
    assert [case.reference is None for case in open_dataset(DataConfig(root=root)).cases] == [
        False,
        False,
        True,
    ]


def test_a_file_named_as_of_another_subject_is_a_fault(root):
    anat = root / "sub-02/anat"
    (anat / "sub-02_FLAIR.nii.gz").rename(anat / "sub-01_ses-a_FLAIR.nii.gz")
    masks = root / "derivatives/expert/sub-01/ses-b/anat"
    (masks / "sub-01_ses-b_dseg.nii.gz").rename(masks / "sub-01_ses-a_dseg.nii.gz")
    assert faults(root) == [[], *[["a file of another subject or session"]] * 2]
    (masks / "sub-01_ses-a_dseg.nii.gz").rename(masks / "sub-01_dseg.nii.gz")  # says less
    assert faults(root)[1] == []


def test_a_subject_named_lesion_has_images(tmp_path, save, scan, mask):
    save(tmp_path / "sub-lesion01/anat/sub-lesion01_FLAIR.nii.gz", scan())
    derived = tmp_path / "derivatives/expert/sub-lesion01/anat"
    save(derived / "sub-lesion01_lesion.nii.gz", mask)
    save(derived / "sub-lesion01_desc-brain_mask.nii.gz", mask)
    (case,) = open_dataset(DataConfig(root=tmp_path)).cases
    assert case.channels[0].path.is_file()
    assert case.reference == derived / "sub-lesion01_lesion.nii.gz"


def test_faults(root, tmp_path_factory):
    (root / "participants.tsv").write_bytes(b"\xff\xfe")
    with pytest.raises(DataError, match="not readable as a table"):
        open_dataset(DataConfig(root=root))
    (root / "participants.tsv").unlink()
    (root / "sub-0 3/anat").mkdir(parents=True)
    dataset = open_dataset(DataConfig(root=root))
    assert [finding.problem for finding in dataset.findings] == ["a case id that cannot be used"]
    assert len(dataset.cases) == 3
    empty = tmp_path_factory.mktemp("empty")
    (empty / "sub-01/anat").mkdir(parents=True)
    with pytest.raises(DataError, match="no images"):
        open_dataset(DataConfig(root=empty))
