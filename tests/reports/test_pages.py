"""Tests of the report and the timeline page, in a headless browser where there is one."""

import json
import re
import shutil
import subprocess

import numpy as np
import pytest
from click.testing import CliRunner

from affuse.cli import main
from affuse.manifest import Clip, Manifest
from affuse.posteriors.posterior import Posterior, softmax
from affuse.posteriors.timeline import Timeline
from affuse.reports.timeline import write_timeline_page

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
EVIL = "<img src=x onerror=document.title='hacked'>"
EMOTIONS = ("happy", "neutral", EVIL)


@pytest.fixture(scope="module")
def browser():
    found = next((shutil.which(name) for name in BROWSERS if shutil.which(name)), None)
    if found is None:
        pytest.skip(f"No headless browser found; expected one of {', '.join(BROWSERS)}")
    return found


def opened(browser, page, tmp_path, *options):
    """Return the document of a page after its scripts have run, and the lines of the console."""
    found = subprocess.run(
        [
            browser,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--hide-scrollbars",
            f"--user-data-dir={tmp_path / 'profile'}",
            "--enable-logging=stderr",
            "--virtual-time-budget=2000",
            *options,
            page.as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    console = [line for line in found.stderr.splitlines() if "CONSOLE" in line]
    return found.stdout, console


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    generator = np.random.default_rng(0)
    emotion = generator.integers(0, 3, 120)
    Manifest(
        Clip(f"c{i} {EVIL}", speaker=f"s{i % 6} {EVIL}", emotion=EMOTIONS[e], valence=float(e))
        for i, e in enumerate(emotion)
    ).write(folder / "clips.csv")
    for name in ("first", "second"):
        rows = softmax(1.5 * np.eye(3)[emotion] + generator.normal(size=(120, 3)))
        ids = tuple(f"c{i} {EVIL}" for i in range(120))
        valence = emotion + generator.normal(size=120)
        Posterior(ids, EMOTIONS, rows, {"valence": valence}).write(folder / f"{name}.csv")
    out = folder / "report.html"
    found = CliRunner().invoke(
        main,
        [
            "report",
            str(folder / "first.csv"),
            str(folder / "second.csv"),
            "--manifest",
            str(folder / "clips.csv"),
            "-o",
            str(out),
            "--resamples",
            "50",
            "--title",
            EVIL,
        ],
        catch_exceptions=False,
    )
    assert found.exit_code == 0, found.output
    return out


def test_report_is_self_contained_and_complete(report):
    html = report.read_text()
    assert not re.findall(r"""(?:src|href)=["'](?!data:|#)""", html)
    assert "script-src &#39;none&#39;" in html and "<script" not in html
    for part in (
        "Summary",
        "Combinations",
        "all combined",
        "Reliability",
        "Confusion",
        "per speaker",
        "Predicted valence",
        "Software",
    ):
        assert part in html, part
    assert EVIL not in html


def test_report_states_where_systems_list_different_clips(report, tmp_path):
    rows = (report.parent / "first.csv").read_text().splitlines(keepends=True)
    (tmp_path / "short.csv").write_text("".join(rows[:101]))
    given = [str(tmp_path / "short.csv"), str(report.parent / "second.csv")]
    labels = ["--manifest", str(report.parent / "clips.csv"), "--resamples", "10"]
    out = tmp_path / "report.html"
    CliRunner().invoke(main, ["report", *given, *labels, "-o", str(out)], catch_exceptions=False)
    assert "120 clips of 6 speakers" in report.read_text()
    assert "(short 100, second 120, all combined 120)" in out.read_text()


def test_contributions_of_members_are_explained_only_where_they_are_shown(report):
    folder = report.parent
    given = [str(folder / f"{name}.csv") for name in ("first", "second")]
    combined, labels = folder / "combined.csv", ["--manifest", str(folder / "clips.csv")]

    def shown():
        out = ["-o", str(folder / "given.html"), "--resamples", "10"]
        CliRunner().invoke(main, ["report", *given, str(combined), *labels, *out], catch_exceptions=False)
        return (folder / "given.html").read_text()

    CliRunner().invoke(main, ["combine", *given, *labels, "-o", str(combined)])
    page = shown()
    assert "Members of combined" in page and "rule log-linear" in page
    assert "The contribution" in page and "contribution (paired)" in page
    CliRunner().invoke(main, ["combine", *given, "-o", str(combined)])
    page = shown()
    assert "Members of combined" in page and "contribution" not in page


def test_report_opens_in_a_browser_and_no_label_is_executed(browser, report, tmp_path):
    document, console = opened(browser, report, tmp_path, "--dump-dom")
    assert "<title>hacked" not in document and "<h2>Summary" in document
    assert console == []


def test_report_fits_a_phone_screen_and_prints(browser, report, tmp_path):
    """A script that the test adds, allowed by its digest, measures the page; then the page is printed."""
    from affuse.reports.page import digest

    script = (
        "document.title = document.documentElement.scrollWidth <= window.innerWidth"
        " && [...document.images].every(i => i.naturalWidth > 0)"
    )
    html = report.read_text().replace("script-src &#39;none&#39;", f"script-src {digest(script)}")
    page = tmp_path / "phone.html"
    page.write_text(html.replace("</body>", f"<script>{script}</script></body>"))
    document, _ = opened(browser, page, tmp_path, "--dump-dom", "--window-size=500,900")
    assert "<title>true" in document
    pdf = tmp_path / "report.pdf"
    opened(browser, report, tmp_path, f"--print-to-pdf={pdf}")
    assert pdf.read_bytes()[:5] == b"%PDF-"


@pytest.fixture
def page(tmp_path):
    import av

    video = tmp_path / "clip.mp4"
    with av.open(str(video), "w") as file:
        stream = file.add_stream("h264", rate=10)
        stream.width = stream.height = 64
        stream.pix_fmt = "yuv420p"
        for i in range(40):
            frame = av.VideoFrame.from_ndarray(np.full((64, 64, 3), 6 * i, np.uint8))
            file.mux(stream.encode(frame))
        file.mux(stream.encode())
    start = np.arange(4.0)
    rows = softmax(np.random.default_rng(0).normal(size=(4, 3)))
    rows[1] = np.nan
    found = Timeline(EVIL, start, start + 1, EMOTIONS, rows, {"valence": start - 2}, video)
    out = tmp_path / "timeline.html"
    return write_timeline_page(found, out)


DRIVE = """
addEventListener("load", () => {
  const canvas = document.querySelector("canvas"), box = canvas.getBoundingClientRect();
  const ink = canvas.getContext("2d"), width = canvas.width, height = canvas.height;
  const at = (x, y) => [...ink.getImageData(x * width, y * height, 1, 1).data];
  const seen = { drawn: at(0.9, 0.5)[3], missing: at(0.37, 0.5)[3] };
  canvas.dispatchEvent(new MouseEvent("click", { clientX: box.left + box.width * 0.625 }));
  seen.seek = player.currentTime;
  seen.now = now.textContent;
  seen.duration = player.duration;
  document.body.dataset.seen = JSON.stringify(seen);
});
"""


def test_timeline_page_draws_plays_and_seeks_on_click(browser, page, tmp_path):
    from affuse.reports.page import digest

    html = page.read_text()
    assert EVIL not in html
    html = html.replace("script-src ", f"script-src {digest(DRIVE)} ", 1)
    page.write_text(html.replace("</body>", f"<script>{DRIVE}</script></body>"))
    document, console = opened(browser, page, tmp_path, "--dump-dom")
    assert "<title>hacked" not in document and not [c for c in console if "Refused" in c]
    seen = json.loads(re.search(r'data-seen="([^"]*)"', document)[1].replace("&quot;", '"'))
    assert seen["drawn"] == 255 and seen["missing"] == 0
    assert seen["seek"] == pytest.approx(2.5, abs=0.05)
    assert "2.5 s" in seen["now"] and "valence 0.00" in seen["now"]


def test_large_recording_is_linked_and_not_embedded(page, tmp_path):
    found = Timeline("x", np.zeros(1), np.ones(1), ("a",), np.ones((1, 1)), media=tmp_path / "clip.mp4")
    (tmp_path / "deep").mkdir()
    html = write_timeline_page(found, tmp_path / "deep" / "t.html", max_embedded=10).read_text()
    assert 'src="../clip.mp4"' in html
