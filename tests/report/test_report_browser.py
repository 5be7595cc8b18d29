"""The page in a real browser, opened from disk."""

import shutil
from dataclasses import replace

import pytest

from segpipe.report.patient import patient_report

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
DRIVER = shutil.which("chromedriver")

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="Chromium and chromedriver are missing"),
]


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    webdriver = pytest.importorskip("selenium.webdriver")
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--window-size=1200,1600"):
        options.add_argument(argument)
    options.add_argument(f"--user-data-dir={tmp_path_factory.mktemp('profile')}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    service = webdriver.ChromeService(executable_path=DRIVER)
    driver = webdriver.Chrome(options=options, service=service)
    yield driver
    driver.quit()


def open_page(browser, folder, html):
    page = folder / "report.html"
    page.write_text(html, encoding="utf-8")
    browser.get(page.as_uri())
    assert browser.get_log("browser") == []


def find(browser, selector):
    return browser.find_elements("css selector", selector)


def test_opens_from_disk_without_error_or_request(browser, tmp_path, inputs):
    browser.get_log("performance")
    open_page(browser, tmp_path, patient_report(replace(inputs, case="<script>alert(1)</script>")))
    requests = [
        entry["message"]
        for entry in browser.get_log("performance")
        if "Network.requestWillBeSent" in entry["message"] and '"url":"http' in entry["message"]
    ]
    assert requests == []
    assert find(browser, "h1")[0].text == "<script>alert(1)</script>"
    assert find(browser, "script") == []
    assert "(231, 245, 240" in find(browser, ".status")[0].value_of_css_property(
        "background-color"
    )  # the policy lets the stylesheet through


def test_contour_can_be_switched_off_by_keyboard(browser, tmp_path, inputs):
    open_page(browser, tmp_path, patient_report(inputs))
    switch, picture = find(browser, "#contour")[0], find(browser, ".slice")[0]
    contours = find(browser, ".contour")
    assert len(contours) == 12
    assert all(contour.is_displayed() for contour in contours)
    shown = picture.screenshot_as_png
    switch.send_keys(" ")
    assert not any(contour.is_displayed() for contour in contours)
    assert picture.screenshot_as_png != shown
    switch.send_keys(" ")
    assert picture.screenshot_as_png == shown


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
    pictures = overlay_pictures(image, components.array, maps, [looks["head"]], "FLAIR")
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
