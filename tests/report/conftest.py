"""A synthetic scan with blobs, and the inputs of a report on it."""

import shutil
from dataclasses import replace
from html.parser import HTMLParser
from importlib import resources
from itertools import pairwise

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from segpipe.report.chance import Chance
from segpipe.report.gallery import make_gallery
from segpipe.report.lesion import Lesion
from segpipe.report.patient import PatientInputs, RegionBurden
from segpipe.report.validation import Validation
from segpipe.report.viewer import make_viewer
from segpipe.volume import Volume


def lesion(number, volume_ml=1.0, **facts):
    known = {
        "label": "lesion",
        "region": "cortical",
        "side": "left",
        "longest_diameter_mm": 12.0,
        "mean_probability": 0.8,
        "chance": Chance(0.25, 12, patients=10),
        "in_plane_diameter_mm": 11.0,
    }
    return Lesion(id=number, volume_ml=volume_ml, **{**known, **facts})


def ball(shape, centre, radius):
    grid = np.indices(shape)
    return sum((g - c) ** 2 for g, c in zip(grid, centre, strict=True)) <= radius**2


@pytest.fixture(scope="session")
def scan():
    """A head of 100 on 0 with two lesions of 200: number 1 large, number 2 small."""
    shape = (48, 56, 40)
    image = 100.0 * ball(shape, (24, 28, 20), 19)
    components = np.zeros(shape, np.uint8)
    components[ball(shape, (16, 30, 22), 4)] = 1
    components[ball(shape, (32, 24, 16), 2)] = 2
    affine = np.array([[1.0, 0, 0, -24], [0, 1, 0, -28], [0, 0, 1, -20], [0, 0, 0, 1]])
    return Volume((image + 100 * (components > 0)).astype(np.float32), affine), Volume(
        components, affine
    )


@pytest.fixture(scope="session")
def validation():
    return Validation(
        cases=12,
        patients=10,
        summary={
            "lesion": {
                "lesion_sensitivity": {"mean": 0.714, "median": 0.7, "ci95": None},
                "volume_error_ml": {
                    "mean": -0.3,
                    "median": -0.21,
                    "iqr": [-0.5, 0.1],
                    "ci95": None,
                    "defined": 12,
                },
                "relative_volume_error": {"mean": -0.2, "median": -0.15, "defined": 12},
            }
        },
        by_size=(
            {
                "low_mm3": 0,
                "high_mm3": 30,
                "lesions": 4,
                "detected": 1,
                "sensitivity": 0.25,
                "sensitivity_ci95": [0.1, 0.5],
            },
            {"low_mm3": 30, "high_mm3": None, "lesions": 0, "detected": 0, "sensitivity": None},
        ),
        chances=(),
    )


@pytest.fixture(scope="session")
def inputs(scan, validation):
    image, components = scan
    lesions = (lesion(1, 0.257), lesion(2, 0.033, side="right", mean_probability=0.55))
    return PatientInputs(
        case="case_01",
        analysed="2026-01-31",
        reported="2026-02-01",
        sequences=("FLAIR", "T1"),
        spacing_mm=(1.0, 1.0, 1.0),
        plane="axial",
        lesions=lesions,
        removed=(3, 0.004),
        removal="below 5 mm³",
        regions=(RegionBurden("cortical", 2, 0.29),),
        gallery=make_gallery({"FLAIR": image, "T1": image}, components, lesions),
        validation=validation,
        operating_point="threshold 0.45, minimum size 5 mm³",
        provenance=(("Bundle", "ms"), ("Weights, SHA-256", "ab" * 32)),
        inputs=(("FLAIR", "cd" * 32), ("T1", "ef" * 32)),
    )


@pytest.fixture(scope="session")
def with_viewer(inputs, scan):
    """The same case with a viewer: an oblique head, brighter to the front and to the top."""
    image, components = scan
    _, y, z = np.indices(image.shape)
    shaded = image.array * (0.5 + y / 70 + z / 90).astype(np.float32)
    turn = np.eye(4)
    turn[:3, :3] = Rotation.from_euler("xz", (15, 10), degrees=True).as_matrix()
    oblique = turn @ image.affine
    viewer = make_viewer(
        {"FLAIR": Volume(shaded, oblique)}, Volume(components.array, oblique), inputs.lesions
    )
    return replace(inputs, viewer=viewer)


@pytest.fixture
def many(inputs):
    """A case with 150 lesions."""
    lesions = tuple(lesion(n, 2.0 / n, label="ab"[n % 2]) for n in range(1, 151))
    return replace(inputs, lesions=lesions, gallery=None, gallery_missing="not asked for")


AXE = """
const [values, done] = arguments;
axe.run({runOnly: {type: 'tag', values}}).then(
  found => done(found.violations.map(v => [v.id, v.nodes.map(n => n.target.join(" "))])),
  error => done(String(error)));
"""
WCAG_AA = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"]


class _Structure(HTMLParser):
    """What a screen reader needs: levels of headings, scopes, alternative texts, ids."""

    def __init__(self):
        super().__init__()
        self.levels, self.faults, self.ids, self.named = [], [], [], []

    def handle_starttag(self, tag, attrs):
        known = dict(attrs)
        if tag in ("h1", "h2", "h3", "h4", "h5", "h6"):
            self.levels.append(int(tag[1]))
        if tag == "th" and known.get("scope") not in ("col", "row"):
            self.faults.append("th without scope")
        if tag == "img" and not known.get("alt"):
            self.faults.append("img without alt")
        if "id" in known:
            self.ids.append(known["id"])
        self.named += (known.get("aria-labelledby") or "").split()


@pytest.fixture(scope="session")
def check_structure():
    def check(html):
        found = _Structure()
        found.feed(html)
        jumps = [b for a, b in pairwise(found.levels) if b > a + 1]
        assert found.levels[0] == 1
        assert found.levels.count(1) == 1
        assert jumps == []
        assert found.faults == []
        assert len(set(found.ids)) == len(found.ids)
        assert set(found.named) <= set(found.ids)

    return check


@pytest.fixture(scope="session")
def check_in_browser(tmp_path_factory):
    """Opens a page from disk: no error, no request, WCAG 2.1 AA by axe, no sideways scrolling."""
    names = ("chromium", "chromium-browser", "google-chrome")
    program = next(filter(None, map(shutil.which, names)), None)
    driver = shutil.which("chromedriver")
    if not (program and driver):
        pytest.skip("Chromium and chromedriver are missing")
    webdriver = pytest.importorskip("selenium.webdriver")
    axe = resources.files(pytest.importorskip("axe_core_python")) / "axe.min.js"
    options = webdriver.ChromeOptions()
    options.binary_location = program
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--window-size=1200,1600"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    service = webdriver.ChromeService(executable_path=driver)
    chrome = webdriver.Chrome(options=options, service=service)

    def check(html):
        page = tmp_path_factory.mktemp("page") / "page.html"
        page.write_text(html, encoding="utf-8")
        chrome.get_log("performance")
        chrome.get(page.as_uri())
        assert chrome.get_log("browser") == []
        asked = [entry["message"] for entry in chrome.get_log("performance")]
        assert not [m for m in asked if "requestWillBeSent" in m and '"url":"http' in m]
        images = "return [...document.images].every(i => i.naturalWidth > 0)"
        assert chrome.execute_script(images)
        chrome.execute_script(axe.read_text(encoding="utf-8"))
        assert chrome.execute_async_script(AXE, WCAG_AA) == []
        wide = "return document.documentElement.scrollWidth - window.innerWidth"
        assert chrome.execute_script(wide) <= 0

    yield check
    chrome.quit()
