"""The page in a real browser, opened from disk."""

import io
import json
import shutil
import time
from dataclasses import replace
from importlib import resources

import numpy as np
import pytest
from PIL import Image

from segpipe.report.change import Change, LesionChange
from segpipe.report.cohort import CohortInputs, cohort_report
from segpipe.report.patient import patient_report
from segpipe.report.steps import FIGURES

keys = pytest.importorskip("selenium.webdriver.common.keys")
select = pytest.importorskip("selenium.webdriver.support.select")
Keys = keys.Keys

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
DRIVER = shutil.which("chromedriver")

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="Chromium and chromedriver are missing"),
]


WEBGL = ("--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader")
WCAG_AA = ("wcag2a", "wcag2aa", "wcag21a", "wcag21aa")


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    """Starts a browser with more arguments and preferences; all are ended afterwards."""
    webdriver = pytest.importorskip("selenium.webdriver")
    running = []

    def begin(*arguments, **preferences):
        options = webdriver.ChromeOptions()
        options.binary_location = CHROMIUM
        for argument in ("--headless=new", "--no-sandbox", "--window-size=1200,1600", *arguments):
            options.add_argument(argument)
        options.add_argument(f"--user-data-dir={tmp_path_factory.mktemp('profile')}")
        options.add_experimental_option("prefs", preferences)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        service = webdriver.ChromeService(executable_path=DRIVER)
        running.append(webdriver.Chrome(options=options, service=service))
        return running[-1]

    yield begin
    for driver in running:
        driver.quit()


@pytest.fixture(scope="module")
def browser(start):
    """A browser that draws WebGL by software."""
    return start(*WEBGL)


def open_page(browser, folder, html):
    page = folder / "report.html"
    page.write_text(html, encoding="utf-8")
    browser.get(page.as_uri())
    assert browser.get_log("browser") == []
    return page.as_uri()


def find(browser, selector):
    return browser.find_elements("css selector", selector)


def one(browser, selector):
    (element,) = find(browser, selector)
    return element


def addresses(browser):
    """Whatever the page asked for since the last call."""
    messages = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    asked = ("Network.requestWillBeSent", "Network.webSocketCreated")
    return [
        (message["params"].get("request") or message["params"])["url"]
        for message in messages
        if message["method"] in asked
    ]


def wait_for(condition, seconds=60):
    """The first true answer; software WebGL on a busy machine can take its time."""
    ends = time.monotonic() + seconds
    while not (answer := condition()):
        assert time.monotonic() < ends, "waited in vain"
        time.sleep(0.1)
    return answer


def place(browser):
    return one(browser, "#viewer-place").text


def open_viewer(browser, folder, html):
    """The page with its viewer drawn; its address."""
    page = open_page(browser, folder, html)
    browser.execute_script("document.getElementById('viewer').scrollIntoView()")
    wait_for(lambda: place(browser))
    return page


def drawn(browser):
    """The canvas as it is seen, (rows, columns, 3), once it stands still."""
    canvas, last = one(browser, "#viewer-canvas"), None
    while True:
        browser.execute_async_script("requestAnimationFrame(() => arguments[0]())")
        seen = canvas.screenshot_as_png
        if seen == last:
            return np.asarray(Image.open(io.BytesIO(seen)).convert("RGB")).astype(int)
        last = seen


def redrawn(browser, before):
    """The canvas once it looks like none of these: a change is drawn a moment after it is told."""
    looks = []

    def new():
        looks.append(drawn(browser))
        return not any(np.array_equal(looks[-1], one) for one in before)

    wait_for(new)
    return looks[-1]


def violations(browser):
    """What axe finds against WCAG 2.1 AA, and where."""
    axe = resources.files("axe_core_python") / "axe.min.js"
    browser.execute_script(axe.read_text(encoding="utf-8"))
    found = browser.execute_async_script(
        "const [values, done] = arguments;"
        "axe.run({runOnly: {type: 'tag', values}}).then(done, (e) => done(String(e)))",
        WCAG_AA,
    )
    assert isinstance(found, dict), found
    assert len(found["passes"]) > 5
    return [(v["id"], [node["html"][:200] for node in v["nodes"]]) for v in found["violations"]]


def test_opens_from_disk_without_error_or_request(browser, tmp_path, with_viewer):
    evil = "<script>alert(1)</script>"
    addresses(browser)
    page = open_viewer(browser, tmp_path, patient_report(replace(with_viewer, case=evil)))
    assert browser.get_log("browser") == []
    asked = addresses(browser)
    assert asked.count(page) == 1
    others = {address.split(":")[0] for address in asked if address != page}
    assert others - {"chrome"} == {"data"}  # chrome: pages of the browser's own
    assert one(browser, "h1").text == evil
    assert evil in browser.title
    assert [s.get_attribute("type") for s in find(browser, "script")] == [
        "application/json",
        "",
        "",
    ]
    assert "(234, 241, 247" in one(browser, ".status").value_of_css_property(
        "background-color"
    )  # the policy lets the stylesheet through


def test_the_policy_refuses_the_network_and_other_scripts(browser, tmp_path, with_viewer):
    html = patient_report(with_viewer)
    sneaked = "<script>document.title = 'ran'</script><img src='http://127.0.0.1:9/x.png'>"
    (tmp_path / "report.html").write_text(html.replace("<main>", f"<main>{sneaked}", 1), "utf-8")
    browser.get((tmp_path / "report.html").as_uri())
    errors = [entry["message"] for entry in browser.get_log("browser")]
    assert len(errors) == 2
    assert all("Content Security Policy" in error for error in errors)
    assert browser.title == "Lesion report, case case_01"


def test_the_viewer_draws_and_other_slices_look_different(browser, tmp_path, with_viewer):
    open_viewer(browser, tmp_path, patient_report(with_viewer))
    canvas = one(browser, "#viewer-canvas")
    first = drawn(browser)
    grey = (np.ptp(first, axis=2) < 12) & (first.mean(axis=2) > 40)
    assert grey.mean() > 0.05  # the head
    assert place(browser).endswith("sagittal slice 17, coronal 31, axial 23")
    canvas.send_keys(Keys.PAGE_DOWN * 2)
    wait_for(lambda: place(browser).endswith("axial 21"))
    second = redrawn(browser, [first])
    assert (np.abs(second - first).max(axis=2) > 20).sum() > 200
    canvas.send_keys(Keys.ARROW_LEFT * 3 + Keys.ARROW_UP)  # to the patient's right, and forward
    wait_for(lambda: place(browser).endswith("sagittal slice 20, coronal 32, axial 21"))
    assert browser.get_log("browser") == []


def coloured(pixels):
    """How many pixels are orange, and how many blue."""
    red, _, blue = np.moveaxis(pixels, 2, 0)
    return int(((red - blue) > 60).sum()), int(((blue - red) > 30).sum())


def test_lesions_can_be_hidden_and_shown_by_keyboard(browser, tmp_path, with_viewer):
    open_viewer(browser, tmp_path, patient_report(with_viewer))
    shown = drawn(browser)
    assert coloured(shown)[0] > 50
    switch = one(browser, "#viewer-mask")
    switch.send_keys(" ")
    wait_for(lambda: coloured(drawn(browser))[0] < coloured(shown)[0] / 10)  # the crosshair stays
    switch.send_keys(" ")
    wait_for(lambda: np.array_equal(drawn(browser), shown))


def test_a_lesion_chosen_in_the_table_is_under_the_crosshair(browser, tmp_path, with_viewer):
    open_page(browser, tmp_path, patient_report(with_viewer))
    one(browser, ".lesions a[data-lesion='2']").send_keys(Keys.ENTER)  # the viewer starts by it
    there = "Marked region 2 at the crosshair; sagittal slice 33, coronal 25, axial 17"
    wait_for(lambda: place(browser) == there)
    assert one(browser, "#viewer-lesion").get_attribute("value") == "2"
    wait_for(lambda: coloured(drawn(browser))[0] > 10)
    one(browser, ".key a[data-lesion='1']").click()
    wait_for(lambda: place(browser).startswith("Marked region 1 at the crosshair"))
    one(browser, "#viewer-next").click()
    wait_for(lambda: place(browser) == there)
    assert browser.get_log("browser") == []


def test_each_plane_can_be_seen_alone(browser, tmp_path, with_viewer):
    open_viewer(browser, tmp_path, patient_report(with_viewer))
    seen = [drawn(browser)]
    for plane in ("axial", "coronal", "sagittal"):
        select.Select(one(browser, "#viewer-plane")).select_by_visible_text(plane)
        seen.append(redrawn(browser, seen))


def test_without_webgl_the_pictures_stay(start, tmp_path, with_viewer):
    browser = start("--disable-gpu", "--disable-3d-apis")
    open_page(browser, tmp_path, patient_report(with_viewer))
    browser.execute_script("document.getElementById('viewer').scrollIntoView()")
    told = "The viewer cannot be shown (this browser has no WebGL 2)."
    wait_for(lambda: one(browser, "#viewer-fallback").text.startswith(told))
    assert not one(browser, "#viewer-canvas").is_displayed()
    assert not one(browser, "#viewer-next").is_displayed()
    assert all(picture.is_displayed() for picture in find(browser, ".slice"))


def test_without_scripts_the_page_says_so_and_the_rest_works(start, tmp_path, with_viewer):
    browser = start(**{"profile.managed_default_content_settings.javascript": 2})
    open_page(browser, tmp_path, patient_report(with_viewer))
    assert one(browser, "#viewer-fallback").text.startswith("The viewer needs scripts")
    assert one(browser, "#viewer-canvas").rect["height"] == 0
    contour = find(browser, ".contour")[0]
    assert contour.value_of_css_property("display") == "inline"
    one(browser, "#contour").click()
    assert contour.value_of_css_property("display") == "none"


def test_paper_shows_no_viewer_and_no_controls(browser, tmp_path, with_viewer):
    open_viewer(browser, tmp_path, patient_report(with_viewer))
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    try:
        hidden = ("#viewer", "#contour", "label[for=contour]", ".jump")
        assert not any(e.is_displayed() for selector in hidden for e in find(browser, selector))
        assert one(browser, ".banner").is_displayed()
    finally:
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
        browser.get("about:blank")
        browser.get_log("browser")  # NiiVue's warnings on drawing into the hidden canvas


def test_wcag_aa_with_the_viewer_open(browser, tmp_path, with_viewer):
    open_viewer(browser, tmp_path, patient_report(with_viewer))
    assert violations(browser) == []


@pytest.mark.parametrize("kind", ["failed", "without lesions", "150 lesions", "compared"])
def test_wcag_aa(browser, tmp_path, inputs, many, kind):
    change = Change(
        groups=(LesionChange("grown", 0.5, (4,), (1,)), LesionChange("new", None, (), (2,))),
        volume_ml=0.29,
        prior_volume_ml=0.2,
        cautions=("the case ids differ.",),
    )
    page = {
        "failed": replace(inputs, error="case_01.nii.gz: ends early."),
        "without lesions": replace(inputs, lesions=(), gallery=None, validation=None),
        "150 lesions": many,
        "compared": replace(inputs, change=change, flags=("A flag.",)),
    }[kind]
    open_page(browser, tmp_path, patient_report(page))
    assert violations(browser) == []


@pytest.mark.parametrize("width", [400, 1200])
def test_the_longest_case_id_breaks_no_page(browser, tmp_path, inputs, width):
    browser.set_window_size(width, 1600)
    try:
        open_page(browser, tmp_path, patient_report(replace(inputs, case="W" * 64)))
        heading = browser.execute_script(
            "const r = document.querySelector('h1')"
            ".getBoundingClientRect(); return [r.left, r.right]"
        )
        assert 0 <= heading[0] < heading[1] <= browser.execute_script("return innerWidth")
    finally:
        browser.set_window_size(1200, 1600)


def test_contour_can_be_switched_off_by_keyboard(browser, tmp_path, inputs):
    open_page(browser, tmp_path, patient_report(inputs))
    switch, picture = one(browser, "#contour"), find(browser, ".slice")[0]
    contours = find(browser, ".contour")
    assert len(contours) == 12
    assert all(contour.is_displayed() for contour in contours)
    switch.send_keys(" ")
    assert not any(contour.is_displayed() for contour in contours)
    hidden = picture.screenshot_as_png
    switch.send_keys(" ")
    wait_for(lambda: all(contour.is_displayed() for contour in contours))
    assert picture.screenshot_as_png != hidden
    switch.send_keys(" ")
    wait_for(lambda: picture.screenshot_as_png == hidden)


def test_a_long_table_unfolds(browser, tmp_path, many):
    open_page(browser, tmp_path, patient_report(many))
    rows = find(browser, ".lesions tbody tr")
    assert sum(row.is_displayed() for row in rows) == 20
    find(browser, "#all-rows")[0].send_keys(" ")
    assert sum(row.is_displayed() for row in rows) == 150


def test_overlays_of_prepared_cases_are_shown_and_switched_off(browser, tmp_path, scan):
    import numpy as np

    from segpipe.config import RegionConfig
    from segpipe.report.overlay import overlay_pictures, overlay_svg, region_looks
    from segpipe.report.review import ReviewedCase, review_page

    looks = region_looks([RegionConfig(name="head", source="mask", file="m", weight=2.0)])
    image, components = scan
    maps = np.where(image.array[..., None] > 0, 255, 0).astype(np.uint8)
    tint = maps[..., 0] / 255
    pictures = overlay_pictures(image, components.array, maps, [looks["head"]], "FLAIR", tint)
    svg = overlay_svg("a", pictures, [looks["head"]])
    (tmp_path / "a.svg").write_text(svg, encoding="utf-8")
    browser.get((tmp_path / "a.svg").as_uri())
    assert browser.get_log("browser") == []
    cases = [ReviewedCase("a", svg), ReviewedCase("b", error="File missing.")]
    open_page(browser, tmp_path, review_page("<script>x</script>", "Here.", looks, cases))
    assert find(browser, "script") == []
    (picture,) = find(browser, ".overlay")
    assert picture.size["width"] > 800
    contours = find(browser, ".overlay .contour")
    assert len(contours) == 4 * 3  # tint, outlines, numbers
    shown = picture.screenshot_as_png
    find(browser, "#contour")[0].send_keys(" ")
    assert not any(contour.is_displayed() for contour in contours)
    assert picture.screenshot_as_png != shown


def test_a_cohort_page_draws_its_charts(browser, tmp_path):
    from segpipe.report import figures
    from segpipe.report.page import render

    chart = figures.bland_altman([(1.0, 2.0), (2.0, 2.0), (3.0, 5.0)])
    html = render("base.html.j2", {"title": "charts"})
    html = html.replace("<main>", f'<main><img src="{chart.image}" alt="chart">')
    open_page(browser, tmp_path, html)
    image = find(browser, "img")[0]
    assert browser.execute_script("return arguments[0].naturalWidth", image) > 300


def test_the_steps_of_post_processing_fit_on_the_page(browser, tmp_path):
    figure = {
        "before": 12.5,
        "after": 122.0,
        "difference": 109.5,
        "ci95": [106.61, 112.69],
        "p": 0.031,
    }
    counts = dict.fromkeys(
        (
            *("lesions_lost", "lesions_gained"),
            *("false_positives_removed", "false_positives_added"),
        ),
        1234,
    )
    effect = dict.fromkeys(FIGURES, figure) | counts
    step = {
        "step": "min_size_mm3",
        "from": 0.0,
        "to": 100.0,
        "adopted": False,
        "reason": "mean lesion F1 0.19 against 0.2, which no interval of these cases tells apart",
        "labels": {"lesion": effect},
    }
    document = {"rows": [], "summary": {}, "settings": {"rule": "any", "connectivity": 26}}
    point = {"threshold": 0.5, "min_size_mm3": 0.0}
    inputs = CohortInputs("ms", "2026-02-01", 1, (), document, None, point, steps=[step])
    open_page(browser, tmp_path, cohort_report(inputs))
    width, wanted = (
        browser.execute_script(f"return document.documentElement.{name}")
        for name in ("clientWidth", "scrollWidth")
    )
    assert wanted <= width
