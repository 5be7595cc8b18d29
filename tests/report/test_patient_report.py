import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from segpipe.report.chance import Chance
from segpipe.report.change import Change, LesionChange
from segpipe.report.gallery import make_gallery
from segpipe.report.page import security_policy
from segpipe.report.patient import (
    assess,
    expected_false_positives,
    headline,
    patient_report,
    reliability,
)
from segpipe.report.validation import Validation, few

SPACE = "\N{NO-BREAK SPACE}"
EVIL = "<script>alert('x')</script>\"&"


def text(html):
    """What a reader reads."""
    body = re.sub(r"(?s)<style>.*?</style>|<title>.*?</title>", "", html)
    body = re.sub(r"<[^>]+>", " ", body)
    return re.sub(r"\s+", " ", body)


class Outline(HTMLParser):
    """Headings, images and ids of a page."""

    def __init__(self, html):
        super().__init__()
        self.headings, self.pictures, self.ids, self.labelled = [], [], [], []
        self.addresses = []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        known = dict(attrs)
        if re.fullmatch("h[1-6]", tag):
            self.headings.append(int(tag[1]))
        if tag == "img" or known.get("role") == "img":
            self.pictures.append(known.get("alt") or known.get("aria-label"))
        self.ids += [known["id"]] if "id" in known else []
        self.labelled += [known["for"]] if "for" in known else []
        self.labelled += [known["aria-labelledby"]] if "aria-labelledby" in known else []
        self.addresses += [known[a] for a in ("src", "href", "xlink:href") if a in known]


def test_the_answer_in_one_sentence(inputs):
    assert headline(inputs.lesions) == (
        f"2{SPACE}lesions, 0.29{SPACE}ml in total; the largest is number 1, 0.26{SPACE}ml, "
        f"longest diameter 12.0{SPACE}mm (11.0{SPACE}mm in plane), cortical, left."
    )
    one = replace(
        inputs.lesions[0], longest_diameter_mm=None, in_plane_diameter_mm=None, region=None
    )
    assert headline([one]) == f"1 lesion, 0.26{SPACE}ml, diameter not computed, left."
    assert headline([]) == "Nothing was marked as a lesion, which does not exclude one."
    cut = replace(one, touches_border=True)
    assert headline([cut]).endswith(", left. It is flagged above.")
    assert headline([*inputs.lesions, cut]).endswith("left. 1 of them is flagged above.")


def test_first_screen_has_status_counts_and_burden(inputs):
    words = text(patient_report(inputs)).replace(SPACE, " ")
    assert "Research use only. Not a medical device." in words
    assert "Status: usable" in words
    assert "Lesions 2 of which about 0.5 expected to be false positives" in words
    assert (
        "Total volume 0.29 ml 3 regions removed by the operating point (&lt;0.01 ml): below 5 mm³ "
        "found minus reference volume on 12 validation scans: median −0.21 ml (−15 %), "
        "half of them −0.50 to +0.10 ml"
    ) in words
    assert (
        "Largest lesion 0.26 ml number 1, 12.0 mm longest diameter, 11.0 mm in axial plane" in words
    )
    assert "Change no prior" in words
    assert "cortical 2 0.29 ml" in words
    assert (
        "FLAIR, T1 Spacing 1.00 × 1.00 × 1.00 mm Scan date not in the file Analysed 2026-01-31"
        in words
    )
    assert "1 cortical left 0.26 ml 12.0 mm 11.0 mm 0.80 25 % 9 % to 53 %, n = 12" in words
    assert "Lesion sensitivity share of a scan's lesions that were found 0.71" in words.replace(
        "&#39;", "'"
    )
    assert "0 to 30 mm³ 1 4 25 % 5 % to 70 %" in words
    assert "95 % interval: the wider of Wilson’s over lesions and the bootstrap over" in words
    assert "30 mm³ and more 0 0 not measured not measured" in words
    assert "ab" * 32 in words
    assert "ef" * 32 in words


def test_a_failed_case_shows_its_reason_and_no_number(inputs):
    failed = replace(inputs, error="The file ends early.")
    words = text(patient_report(failed))
    assert "Status: not computed" in words
    assert "The file ends early." in words
    for gone in ("At a glance", "Key slices", "Total volume", "0.29", "mean probability", "0.71"):
        assert gone not in words


def test_missing_is_a_word_and_never_zero(inputs, validation):
    bare = lesion_without_anything(inputs)
    words = text(
        patient_report(
            replace(
                inputs,
                lesions=(bare,),
                removed=None,
                regions=(),
                validation=None,
                validation_missing="this bundle was not validated",
                spacing_mm=None,
            )
        )
    ).replace(SPACE, " ")
    assert "how many are false positives: not measured" in words
    assert "How reliable this model is was not measured: this bundle was not validated." in words
    assert "removed regions: not recorded" in words
    assert "Not computed: no anatomical regions were given." in words
    assert (
        "1 not computed not known 0.26 ml not computed not computed not computed not measured"
        in words
    )
    assert "error of the volume: not measured" in words
    assert "Not measured: this bundle was not validated." in words
    assert "Spacing not read" in words
    assert "0.00" not in words


def lesion_without_anything(inputs):
    return replace(
        inputs.lesions[0],
        region=None,
        side=None,
        longest_diameter_mm=None,
        in_plane_diameter_mm=None,
        mean_probability=None,
        chance=None,
    )


def test_no_lesion_is_a_result(inputs, scan):
    image, components = scan
    nothing = components.with_array(components.array * 0)
    empty = replace(inputs, lesions=(), gallery=make_gallery({"FLAIR": image}, nothing, ()))
    words = text(patient_report(empty)).replace(SPACE, " ")
    assert assess(empty).word == "usable"
    assert "Nothing was marked as a lesion, which does not exclude one." in words
    assert "Lesions 0 none was marked" in words
    assert "Largest lesion none" in words
    assert "Nothing was marked. This is the middle slice of the scan that was read." in words
    html = patient_report(empty)
    assert html.count('<svg class="slice"') == 1
    assert "FLAIR, axial slice 21. The patient’s left is on the right" in html
    assert "data-component" not in html


def test_no_lesion_in_a_scan_that_is_gone_is_for_review(inputs):
    gone = replace(inputs, lesions=(), gallery=None, gallery_missing="the FLAIR scan is missing")
    assert assess(gone).word == "review"
    assert assess(gone).reasons == (
        "The result cannot be checked by pictures here: the FLAIR scan is missing.",
    )
    assert "Nothing was marked. The scan is not shown: the FLAIR scan is missing." in text(
        patient_report(gone)
    )
    assert '<svg class="slice"' not in patient_report(gone)


def test_regions_outside_the_named_anatomy_are_for_review_and_pictured(inputs):
    astray = tuple(replace(one, implausible=True) for one in inputs.lesions)
    status = assess(replace(inputs, lesions=astray[:1]))
    assert status.word == "review"
    assert status.reasons == ("Lesion 1 lies mainly outside the named anatomy: check first.",)
    many = tuple(replace(astray[0], id=number) for number in range(1, 14))
    (reason,) = assess(replace(inputs, lesions=many)).reasons
    assert reason.startswith("Lesions 1, 2, 3, 4, 5, 6, 7, 8, 9, 10 and 3 more lie mainly outside")
    left = replace(inputs.gallery, implausible_left=9)
    words = text(patient_report(replace(inputs, lesions=many, gallery=left)))
    assert "the four largest regions outside the named anatomy; 9 more of these" in words
    assert "Every lesion is shown." in text(patient_report(inputs))


def test_an_error_of_the_volume_measured_on_few_scans_says_so(inputs, validation):
    facts = {"median": 0.4, "iqr": [0.1, 0.9], "defined": 2}
    few = replace(validation, summary={"lesion": {"volume_error_ml": facts}})
    words = text(patient_report(replace(inputs, validation=few))).replace(SPACE, " ")
    assert "found minus reference volume on only 2 validation scans: median +0.40 ml" in words
    both = replace(validation, summary={"a": {"volume_error_ml": facts}, "b": {}})
    assert "see “What to expect”" in text(patient_report(replace(inputs, validation=both)))


def test_figures_of_cross_validation_are_not_told_as_those_of_this_model(inputs, validation):
    own = text(patient_report(inputs)).replace(SPACE, " ")
    assert "12 validation scans of 10 patients that were not trained on" in own
    pooled = replace(inputs, validation=replace(validation, pooled=True, counted_from_mm3=8.0))
    words = text(patient_report(pooled)).replace(SPACE, " ")
    assert "that were not trained on" not in words
    assert "each by a model that was not trained on it" in words
    assert "was not measured itself. Components below 8 mm³ were not counted." in words


def test_figures_of_scans_that_had_a_say_are_told_as_too_good(inputs, validation):
    why = ("The operating point was chosen on these cases, so their figures are optimistic.",)
    chosen = replace(inputs, validation=replace(validation, optimistic=why))
    words = text(patient_report(chosen)).replace(SPACE, " ")
    assert f"{why[0]} No certified operating point" in words
    caution = "; on other scans expect somewhat worse, as its settings were chosen on those."
    assert caution in words
    assert caution not in text(patient_report(inputs)).replace(SPACE, " ")


def test_status_gives_every_reason(inputs):
    assert assess(inputs).word == "usable"
    edge = tuple(replace(one, touches_border=True) for one in inputs.lesions)
    status = assess(
        replace(
            inputs,
            flags=("Anatomy mask missing.",),
            lesions=edge,
            gallery=None,
            gallery_missing="the FLAIR scan was changed after it was predicted from",
        )
    )
    assert status.word == "review"
    assert status.reasons == (
        "Anatomy mask missing.",
        "Lesions 1, 2 touch the border of the scan: a part can lie outside.",
        "The result cannot be checked by pictures here: "
        "the FLAIR scan was changed after it was predicted from.",
    )
    assert assess(replace(inputs, error="Gone.")).word == "not computed"


def test_expected_false_positives_count_only_what_was_measured(inputs):
    first, second = inputs.lesions
    assert expected_false_positives(inputs.lesions) == 0.5
    assert expected_false_positives([first, replace(second, chance=None)]) is None
    assert expected_false_positives([]) is None


def test_a_chance_measured_on_few_components_is_no_percentage(inputs):
    first, second = inputs.lesions
    few = replace(second, chance=Chance(0.0, 5, patients=5))
    assert expected_false_positives([first, few]) is None
    words = text(patient_report(replace(inputs, lesions=(first, few))))
    assert "not known (0 of 5 on validation, of 5 patients: too few)" in words.replace(SPACE, " ")
    assert "too little measured to say" in words
    of_few_patients = Chance(0.3, 20, patients=9)
    assert not of_few_patients.enough
    assert replace(of_few_patients, patients=10).enough
    assert not Chance(0.3, 20).enough  # whose they were is not recorded
    one = replace(first, chance=Chance(1.0, 12, patients=1))
    shown = replace(inputs.gallery, lesions=(replace(inputs.gallery.lesions[0], lesion=one),))
    page = patient_report(replace(inputs, lesions=(one,), gallery=shown))
    words = text(page).replace(SPACE, " ")
    assert words.count("not known (12 of 12 on validation, of 1 patient: too few)") == 2


def test_a_scan_of_the_validation_itself_is_told_so(inputs):
    told = "This scan is one of them: the figures"
    assert told not in text(patient_report(inputs))
    assert told in text(patient_report(replace(inputs, of_validation=True)))


def test_an_interval_without_width_is_none(inputs):
    summary = {"lesion": {"lesion_sensitivity": {"mean": 1.0, "ci95": [1.0, 1.0]}}}
    sure = replace(inputs.validation, summary=summary)
    words = text(patient_report(replace(inputs, validation=sure))).replace(SPACE, " ")
    assert "1.00 to 1.00" not in words
    assert "1.00 not computed" in words


def test_the_first_screen_says_what_the_model_misses(inputs):
    rows = [{"lesions": 20, "detected": 13}, {"lesions": 8, "detected": 6}]
    summary = {"lesion": {"false_positive_regions": {"mean": 3.0}}}
    validation = Validation(2, 2, summary, rows, ())
    older = reliability(validation, "")  # a bundle without an interval over patients
    assert older == (
        f"On validation this model found 19 of 28{SPACE}lesions (68{SPACE}%, 95 % interval over "
        f"lesions alone 49{SPACE}% to 82{SPACE}%, too narrow to be trusted as it is over "
        f"2{SPACE}patients) and marked 3.0 false-positive regions per scan."
    )
    page = text(patient_report(replace(inputs, validation=replace(validation, by_size=[]))))
    assert "Lesion sensitivity by size Not measured." in page
    known = {"detected": 19, "lesions": 28, "value": 19 / 28, "ci95": [0.31, 0.8]}
    told = reliability(replace(validation, patients=10, sensitivity=known), "")
    assert f"68{SPACE}%, 95 % interval 31{SPACE}% to 82{SPACE}%) and" in told
    one = replace(validation, patients=1, sensitivity={**known, "ci95": None})
    assert reliability(one, "") == older.replace(f"2{SPACE}patients", f"1{SPACE}patient")
    assert reliability(replace(validation, pooled=True), "").startswith(
        "In cross-validation, models trained like this one found 19 of"
    )
    assert "not known: no bundle" in reliability(None, "no bundle")
    none = [{"lesions": 0, "detected": 0}]
    assert "hold none" in reliability(replace(validation, by_size=none), "")
    assert "validation did not record it" in reliability(replace(validation, by_size=()), "")
    assert few(validation.patients)
    assert not few(replace(validation, patients=10).patients)


def test_change_is_told_per_lesion_and_in_sum(inputs):
    change = Change(
        groups=(
            LesionChange("grown", 0.5, (4,), (1,)),
            LesionChange("new", None, (), (2,)),
            LesionChange("gone", None, (7,), ()),
        ),
        volume_ml=0.29,
        prior_volume_ml=0.2,
        prior_case="case_00",
        prior_analysed="2025-01-31",
        gone_volume_ml={7: 0.03},
        cautions=("the case ids differ.",),
    )
    words = text(patient_report(replace(inputs, change=change))).replace(SPACE, " ")
    assert "Change 1 new 1 grown, 0 stable, 0 shrunk, 1 gone" in words
    assert "0.20 ml then, 0.29 ml now (+45 %)" in words
    assert "Gone: number 7 of the prior scan (0.03 ml)" in words
    assert "grown +50 %" in words
    assert "Caution: the case ids differ." in words
    missing = replace(inputs, change_missing="the prior folder has no case of this id")
    words = text(patient_report(missing))
    assert "Change not computed the reason is below" in words
    assert "Not computed: the prior folder has no case of this id." in words


def test_150_lesions_are_listed_in_full_and_folded_on_screen(many):
    html = patient_report(many)
    assert html.count('<tr class="more">') == 130
    assert "Show all 150 lesions" in html
    assert "@media screen {\n  #all-rows:not(:checked) ~ .wide .more { display: none; }" in html
    assert '<th scope="col">Label</th>' in html
    numbers = re.findall(r'<th scope="row" class="n">(\d+)</th>', html)
    assert [int(n) for n in numbers] == list(range(1, 151))  # largest first


def test_every_string_is_escaped(inputs):
    bad = replace(
        inputs,
        case=EVIL,
        sequences=(EVIL,),
        flags=(EVIL,),
        lesions=(replace(inputs.lesions[0], region=EVIL, side=EVIL, label=EVIL),),
        provenance=((EVIL, EVIL),),
        inputs=((EVIL, EVIL),),
        operating_point=EVIL,
        analysed=EVIL,
    )
    for page in (patient_report(bad), patient_report(replace(bad, error=EVIL))):
        assert "<script" not in page
        assert "&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;&#34;&amp;" in page


def test_the_page_is_self_contained_and_forbids_the_network(inputs):
    html = patient_report(inputs)
    policy = security_policy()
    assert policy.startswith("default-src 'none'; img-src data:; style-src 'sha256-")
    assert (
        f'<meta http-equiv="Content-Security-Policy" content="{policy.replace(chr(39), "&#39;")}"'
        in html
    )
    assert "http://" not in html
    assert "https://" not in html
    assert "url(" not in html
    assert not re.search(r"<[^>]+ style=", html)
    assert "<script" not in html
    addresses = Outline(html).addresses
    assert addresses.count("#lesion-1") == addresses.count("#lesion-2") == 1
    pictures = [address for address in addresses if not address.startswith("#lesion-")]
    assert len(pictures) == 6
    assert all(address.startswith("data:image/png;base64,") for address in pictures)


@pytest.mark.parametrize("error", [None, "Gone."])
def test_headings_descend_in_order_and_everything_has_a_name(with_viewer, error):
    page = Outline(patient_report(replace(with_viewer, error=error)))
    assert page.headings[0] == 1
    assert page.headings.count(1) == 1
    steps = zip(page.headings, page.headings[1:], strict=False)
    assert all(after <= before + 1 for before, after in steps)
    assert all(page.pictures)
    assert len(set(page.ids)) == len(page.ids)
    assert set(page.labelled) <= set(page.ids)


def test_the_same_inputs_give_the_same_bytes(inputs):
    assert patient_report(inputs) == patient_report(inputs)


def contrast(a, b):
    def luminance(colour):
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [p / 12.92 if p <= 0.03928 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    high, low = sorted((luminance(a), luminance(b)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize(
    ("ink", "paper"),
    [
        ("#4c5a66", "#ffffff"),
        ("#33424f", "#ffffff"),
        ("#5c3300", "#fff3d6"),
        ("#00406b", "#eaf1f7"),
        ("#6e3f00", "#fdf2df"),
        ("#7f1913", "#f9e9e8"),
    ],
)
def test_text_contrast_reaches_aa(inputs, ink, paper):
    html = patient_report(inputs)
    assert ink in html
    assert paper in html or paper == "#ffffff"
    assert contrast(ink, paper) >= 4.5
