import pytest

from segpipe.config import DataConfig
from segpipe.data.layouts import ChannelFile, find_scans, open_dataset
from segpipe.errors import DataError


@pytest.fixture
def table(tmp_path):
    def _table(text, name="scans.csv", **settings):
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return open_dataset(DataConfig(root=path, **settings))

    return _table


def test_every_column(table, tmp_path):
    dataset = table(
        "case,patient,flair,t1,reference,split,scanner\n"
        "b,P1,b/f.nii.gz,b/t.nii.gz,b/m.nii.gz,train,X\n"
        "a,P1,a/f.nii.gz,a/t.nii.gz, a/m.nii.gz ,,\n"
        "c,P2,c/f.nii.gz,c/t.nii.gz,,test,Y\n"
    )
    assert (dataset.name, dataset.layout, dataset.root) == ("scans", "csv", tmp_path)
    assert dataset.channels == ("flair", "t1")
    first, second = dataset.cases
    assert (first.id, first.patient, first.attributes) == ("a", "P1", {})
    assert first.reference == tmp_path / "a/m.nii.gz"
    assert first.channels == (
        ChannelFile(tmp_path / "a/f.nii.gz"),
        ChannelFile(tmp_path / "a/t.nii.gz"),
    )
    assert second.attributes == {"scanner": "X"}
    assert [(c.id, c.reference) for c in dataset.test_cases] == [("c", None)]


def test_channel_columns_by_configuration(table, tmp_path):
    text = "case;flair;t1\na;f.nii;t.nii\n"
    dataset = table(text, channels=("t1",))
    assert dataset.channels == ("t1",)
    assert dataset.cases[0].channels == (ChannelFile(tmp_path / "t.nii"),)
    assert dataset.cases[0].attributes == {"flair": "f.nii"}
    with pytest.raises(DataError, match="no column for the images; expected t2"):
        table(text, channels=("t2",))


def test_a_cell_without_an_image_is_no_reason_to_drop_a_channel(table):
    with pytest.raises(DataError, match=r"line 3: no image in column T1.*received nothing"):
        table("case,FLAIR,T1,site\na,f.nii,t.nii,x\nb,f.nii,,y\n")


@pytest.mark.parametrize("name", ["reference2", "Expert_B", "lesion_mask", "seg", "gt"])
def test_a_column_of_masks_is_never_taken_for_a_channel(table, name):
    text = f"case,FLAIR,reference,{name}\na,f.nii,m.nii,n.nii\n"
    with pytest.raises(DataError, match=rf"may be masks: {name};.*Set data.channels: \[FLAIR\]"):
        table(text)
    dataset = table(text, channels=("FLAIR",))
    assert (dataset.channels, dataset.cases[0].attributes) == (("FLAIR",), {name: "n.nii"})


def test_image_column(table, tmp_path):
    text = "\ufeffcase\timage\na\ti.nii\n"
    assert table(text).channels == ("image",)
    assert table(text, channels=("MRI",)).channels == ("MRI",)
    several = table(text, channels=("x", "y"))
    assert several.cases[0].channels == (
        ChannelFile(tmp_path / "i.nii", 0, 2),
        ChannelFile(tmp_path / "i.nii", 1, 2),
    )
    assert several.cases[0].patient == "a"


@pytest.mark.parametrize("images", ["image", "FLAIR"])
@pytest.mark.parametrize("name", ["label", "seg", "gt"])
def test_masks_in_a_column_of_another_name_are_to_be_the_reference(table, images, name):
    text = f"case,{images},{name}\na,f.nii,m.nii\n"
    said = rf"may be masks: {name};.*Rename the column of the masks to reference; if.*\[{images}\]"
    with pytest.raises(DataError, match=said):
        table(text)


def test_columns_with_a_meaning_may_be_written_in_capitals(table):
    dataset = table("Case,Patient,IMAGE,Reference,Split,Site\na,p,a.nii,m.nii,test,X\n")
    (case,) = dataset.test_cases
    assert (case.id, case.patient, case.attributes) == ("a", "p", {"Site": "X"})
    assert (dataset.channels, case.reference.name) == (("image",), "m.nii")


@pytest.mark.parametrize("name", ["subject", "Patient_ID", "participant id", "SubjectNo"])
def test_a_column_that_seems_to_name_the_patients_is_no_attribute(table, name):
    with pytest.raises(DataError, match=rf"a column {name}, and none with the name patient"):
        table(f"case,{name},image\na,p,a.nii\n")
    assert table(f"case,patient,{name},image\na,p,7,a.nii\n").cases[0].attributes == {name: "7"}


@pytest.mark.parametrize(("name", "values"), [("set", ("train", "Test")), ("fold", ("val", ""))])
def test_a_column_that_seems_to_be_the_split_is_no_attribute(table, name, values):
    rows = "".join(f"{case},{case}.nii,{value}\n" for case, value in zip("ab", values, strict=True))
    with pytest.raises(DataError, match=f"Rename {name} to split"):
        table(f"case,image,{name}\n{rows}")
    assert len(table(f"case,image,{name}\na,a.nii,0\nb,b.nii,test\n").cases) == 2


def test_whose_the_scans_are_matters_only_where_somebody_is_trained_or_judged(table, tmp_path):
    text = "case,subject,image,set\na1,p,a.nii,test\nb1,q,b.nii,test\n"
    path = tmp_path / "scans.csv"
    path.write_text(text)
    cases, refused = find_scans([path], ["image"])
    assert ([case.id for case in cases], refused) == (["a1", "b1"], [])
    text = text.replace(",set", ",group").replace(",test", ",1")
    by_pattern = table(text, patient_pattern="^(.)")
    assert [case.patient for case in by_pattern.cases] == ["a", "b"]
    with pytest.raises(DataError, match="none with the name patient"):
        table(text)


def test_a_table_with_everybodys_name_is_a_dataset_by_its_folder(table, tmp_path):
    assert table("case,image\na,a.nii\n", name="manifest.csv").name == tmp_path.name


@pytest.mark.parametrize("name", ["T1", "t2w"])
def test_files_beside_an_image_column_are_not_passed_over(table, name):
    text = f"case,image,{name}\na,i.nii,j.nii\n"
    with pytest.raises(DataError, match=rf"columns of files image, {name}\. Set data\.channels"):
        table(text)
    assert table(text, channels=("image",)).channels == ("image",)


def test_a_folder_with_manifest_csv(tmp_path):
    (tmp_path / "manifest.csv").write_text("case,image\na,a.nii\n")
    for layout in ("auto", "csv"):
        dataset = open_dataset(DataConfig(root=tmp_path, layout=layout))
        assert dataset.cases[0].channels[0].path == tmp_path / "a.nii"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "lists no cases"),
        ("case,image\n", "lists no cases"),
        ("id,image\na,a.nii\n", "lists no cases"),
        ("case,image,image\na,a.nii,b.nii\n", "lists no cases"),
        ("case,picture\na,a.png\n", "no column for the images"),
        ("case,image\na\n", r"line 2: a row of another length"),
        ("case,image\na,a.nii,b.nii\n", r"line 2: a row of another length"),
        ("case,image\na,a.nii\na,b.nii\n", "two cases with one id"),
        ("case,image\na/b,a.nii\n", "a case id that cannot be used"),
        ("case,image\n=cmd(),a.nii\n", "a case id that cannot be used"),
        ("case,image,split\na,a.nii,val\n", "an unknown split; expected train or test"),
        ("case,image\na,../a.nii\n", "line 2, column image: a path that leaves"),
        ("case,image\na,/tmp/a.nii\n", "leaves the dataset"),
        ("case,image\na,\n", "no image in column image; expected a .nii or .nii.gz file"),
        ("case,image,reference\na,a.nii,../m.nii\n", "leaves the dataset"),
        (b"case,image\na,\xff.nii\n", "not readable as a table"),
        (b"case,image\na,a\0.nii\n", r"not readable|leaves the dataset"),
        ('case,image\n"a,a.nii\n', "not readable as a table"),
        ("case,image,patient\n1,a.nii,2\n2,b.nii,\n", "line 3: a case without a patient that has"),
    ],
)
def test_tables_that_cannot_be_used(table, text, says):
    with pytest.raises(DataError, match=says):
        table(text)
