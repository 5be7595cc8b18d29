"""`python -m benchmarks.gallery`: pictures of what segpipe makes, taken in headless Chromium.

Trains two short runs on the synthetic samples, with and without the penalty on false-positive
voxels, evaluates both on the test samples, and photographs reports, comparison, model card,
MLflow and the cases of benchmarks.report_cases into docs/img. Runs that are there already are used
again. Needs Chromium.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image
from selenium import webdriver
from selenium.common.exceptions import NoSuchElementException, WebDriverException
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

from benchmarks.report_cases import report_page

ROOT = Path(__file__).parents[1]
PICTURES = ROOT / "docs" / "img"
CONFIG = "configs/samples.yaml"
SHORT = ("train.epochs=4", "train.steps_per_epoch=12", "train.validate_every=2")
RUNS = {"no penalty": ("loss.voxel_count.weight=0",), "penalty": ()}
LARGEST = 300_000  # bytes of a picture
PATIENCE = 180  # seconds that MLflow may take
HIDE_PATHS = """
for (const e of document.querySelectorAll("*"))
  if (!e.childElementCount && e.textContent.includes("file:///")) e.style.visibility = "hidden";
"""
"""Where the runs lie on this machine is nobody's business."""


@dataclass(frozen=True)
class Made:
    """Where the things to photograph lie."""

    cohort: Path
    patient: Path
    comparison: Path
    card: Path


def segpipe(*arguments: str) -> str:
    """Run a command; its standard error is shown, and returned."""
    print("segpipe", *arguments, flush=True)
    program = Path(sys.executable).with_name("segpipe")
    done = subprocess.run(
        [program, *arguments],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    if done.returncode:
        raise SystemExit(f"segpipe {arguments[0]} ended with {done.returncode}:\n{done.stderr}")
    return done.stderr


def make(output: Path) -> Made:
    """Train, evaluate and compare, as far as it was not done before."""
    record = output / "gallery.json"
    folders = json.loads(record.read_text()) if record.is_file() else {}
    where = f"output={output}"
    evaluated: list[str] = []
    for name, changes in RUNS.items():
        if name not in folders:
            said = segpipe("train", CONFIG, where, *SHORT, *changes)
            bundle = _after("bundle in ", said)
            against = ("--baseline", evaluated[-1]) if evaluated else ()
            settings = (where, *SHORT, *changes)
            test = ("--bundle", bundle, "--split", "test", *against)
            said = segpipe("evaluate", CONFIG, *settings, *test)
            folders[name] = {"bundle": bundle, "evaluation": _after("evaluation in ", said)}
            record.write_text(json.dumps(folders, indent=1))
        evaluated.append(folders[name]["evaluation"])
    comparison = output / "comparison.html"
    segpipe("compare", *evaluated, "--html", str(comparison))
    last = Path(evaluated[-1])
    case = sorted((last / "reports").glob("*.html"))[0].stem
    segpipe("report", str(last), case, "-o", str(output / "reports"))  # this one with the viewer
    return Made(
        cohort=last / "cohort.html",
        patient=output / "reports" / f"{case}.html",
        comparison=comparison,
        card=last / "model-card.html",
    )


def _after(start: str, said: str) -> str:
    return next(line[len(start) :] for line in said.splitlines() if line.startswith(start))


@contextmanager
def browser(width: int = 1200, height: int = 1000) -> Iterator[Any]:
    """Headless Chromium; ends with the block."""
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
    driver = shutil.which("chromedriver")
    if found is None or driver is None:
        raise SystemExit(
            "gallery: expected chromium and chromedriver; received none. Install them."
        )
    options = webdriver.ChromeOptions()
    options.binary_location = found
    size = f"--window-size={width},{height}"
    for argument in ("--headless=new", "--no-sandbox", "--hide-scrollbars", size):
        options.add_argument(argument)
    options.add_argument("--use-gl=angle")  # WebGL without a graphics card, for the viewer
    options.add_argument("--use-angle=swiftshader")
    options.add_argument("--enable-unsafe-swiftshader")
    chrome = webdriver.Chrome(
        options=options, service=webdriver.ChromeService(executable_path=driver)
    )
    try:
        yield chrome
    finally:
        chrome.quit()


def keep(png: bytes, name: str, width: int | None = None) -> None:
    """Write a picture, with fewer colours where it would be too large."""
    path = PICTURES / f"{name}.png"
    image = Image.open(io.BytesIO(png)).convert("RGB")
    if width is not None:
        height = round(image.height * width / image.width)
        image = image.resize((width, height), Image.Resampling.LANCZOS)
    for colours in (256, 64, 32):
        buffer = io.BytesIO()
        image.quantize(colours, dither=Image.Dither.NONE).save(buffer, "PNG", optimize=True)
        if buffer.tell() < LARGEST:
            break
    path.write_bytes(buffer.getvalue())
    print(f"{path.relative_to(ROOT)}: {buffer.tell() / 1000:.0f} kB", flush=True)


def find(chrome: Any, selector: str) -> WebElement | None:
    """The first element; None where there is none."""
    try:
        return chrome.find_element("css selector", selector)
    except NoSuchElementException:
        return None


def photograph_pages(chrome: Any, made: Made) -> None:
    """The pages that lie on disk, from the top or from a heading on."""
    shots = [
        (made.patient, "patient-report", None),
        (made.cohort, "cohort-report", None),
        (made.cohort, "cohort-cases", "#cases"),
        (made.cohort, "cohort-baseline", "#baseline"),
        (made.comparison, "comparison", None),
        (made.card, "model-card", None),
    ]
    for page, name, selector in shots:
        chrome.get(page.absolute().as_uri())
        target = find(chrome, selector) if selector else None
        if selector and target is None:
            print(f"{name}: skipped, the page has no {selector}")
            continue
        if target is not None:
            chrome.execute_script("arguments[0].scrollIntoView()", target)
        keep(chrome.get_screenshot_as_png(), name)
    chrome.get(made.patient.absolute().as_uri())
    viewer = find(chrome, "#viewer")
    if viewer is None:
        print("viewer: skipped, the patient report has none")
        return
    chrome.execute_script("arguments[0].scrollIntoView()", viewer)
    time.sleep(5)  # it draws on its own time
    keep(chrome.get_screenshot_as_png(), "viewer")


CASES = {  # of benchmarks.report_cases: picture, and the height that is shown
    "failed": ("report-failed", 560),
    "lesion-free": ("report-no-lesion", 1720),
    "many-lesions": ("report-150-lesions", 1720),
    "thick-slices": ("report-thick-slices", 1340),
}


def photograph_cases(output: Path) -> None:
    """Reports of cases that are hard to show; of many lesions without the key slices."""
    for name, (picture, height) in CASES.items():
        page = report_page(name, output / "cases")
        with browser(1080, height) as chrome:
            chrome.get(page.absolute().as_uri())
            if name == "many-lesions":
                hide = "document.getElementById('pictures').parentElement.style.display = 'none'"
                chrome.execute_script(hide)
            viewer = find(chrome, "#viewer")
            if viewer is not None:  # it draws once it is seen, on its own time
                chrome.execute_script("arguments[0].scrollIntoView()", viewer)
                time.sleep(5)
                chrome.execute_script("scrollTo(0, 0)")
            keep(chrome.get_screenshot_as_png(), picture, width=800)


@contextmanager
def serve(output: Path, port: int) -> Iterator[str]:
    """MLflow over the store, and the address that ``segpipe ui`` prints."""
    program = Path(sys.executable).with_name("segpipe")
    command = [str(program), "ui", "--output", str(output), "--port", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    try:
        assert server.stdout is not None
        found = re.search(r"http://\S+", server.stdout.readline())
        if found is None:
            raise SystemExit("gallery: segpipe ui did not start.")
        yield found[0]
    finally:
        server.send_signal(signal.SIGINT)
        server.wait()


def photograph_mlflow(chrome: Any, output: Path, address: str) -> None:
    """Run table, a run, its curves and pictures, and a report opened in it."""
    chrome.get(address)
    _wait(chrome, "scores/lesion_f1")
    _close_assistant(chrome)
    time.sleep(2)
    keep(chrome.get_screenshot_as_png(), "mlflow-runs")
    run, experiment = _last_evaluation(output), address.split("/experiments/")[1].split("/")[0]
    root = address.split("#")[0] + f"#/experiments/{experiment}/runs/{run['evaluation']}"
    fold = address.split("#")[0] + f"#/experiments/{experiment}/runs/{run['fold']}"
    pages = [
        (root, "made by", "mlflow-run"),
        (f"{root}/artifacts/cohort.html", "cohort.html", "mlflow-report"),
        (f"{fold}/model-metrics", "Model metrics", "mlflow-curves"),
    ]
    for page, words, name in pages:
        chrome.get("about:blank")
        chrome.get(f"{page}?workflowType=machine_learning")
        _wait(chrome, words)
        search = find(chrome, "input[placeholder='Search metric charts']")
        if search is not None:
            search.send_keys("loss|voxel_count|learning|per_second")
        time.sleep(10)  # pictures and frames come after the words
        chrome.execute_script(HIDE_PATHS)
        keep(chrome.get_screenshot_as_png(), name)


def _wait(chrome: Any, words: str) -> None:
    WebDriverWait(chrome, PATIENCE).until(lambda c: words in c.page_source)


def _close_assistant(chrome: Any) -> None:
    """MLflow opens with a panel of its own; it remembers that it was closed."""
    for element in chrome.find_elements("css selector", "button"):
        try:
            label = (element.get_attribute("aria-label") or "").lower()
            if label.startswith("close") and element.location["x"] > 1000:
                element.click()
                return
        except WebDriverException:
            continue


def _last_evaluation(output: Path) -> dict[str, str]:
    """Ids of the last evaluation's run and of the newest run of a fold."""
    folders = list(json.loads((output / "gallery.json").read_text()).values())[-1]
    training = Path(folders["bundle"]).parents[1]
    fold = json.loads((training / "run.json").read_text())["folds"]["0"]["run_id"]
    return {"evaluation": Path(folders["evaluation"]).parent.name, "fold": fold}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gallery", description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("runs/gallery"), help="for the runs")
    parser.add_argument("--port", type=int, default=5099, help="for MLflow")
    options = parser.parse_args()
    os.chdir(ROOT)
    options.output.mkdir(parents=True, exist_ok=True)
    made = make(options.output)
    PICTURES.mkdir(exist_ok=True)
    with browser() as chrome:
        photograph_pages(chrome, made)
    photograph_cases(options.output)
    with serve(options.output, options.port) as address, browser(1500, 900) as chrome:
        photograph_mlflow(chrome, options.output, address)


if __name__ == "__main__":
    main()
