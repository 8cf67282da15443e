# SPDX-License-Identifier: Apache-2.0
"""The report in Debian's Chromium: on a phone and on a desk, in light and in dark, without a network."""

import os
import re
import shutil

import pytest
from test_report import ENGINES, SAMPLES

from rackgate.paths import build_root
from rackgate_host.report.pages import PAGES
from rackgate_host.report.records import read_results
from rackgate_host.report.site import write_site

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
PHONE, DESK = (375, 812), (1280, 900)
NAMES = ["index", *PAGES, "verification"]
#: Nothing may be asked of a network, and nothing may go wrong without a word.
LIMIT_MS = 60_000

pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium here: apt-get install chromium fonts-dejavu-core"),
    pytest.mark.xdist_group("chromium"),
]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The report of the recorded samples, and where its screenshots are kept."""
    return write_site(read_results(SAMPLES), ENGINES, tmp_path_factory.mktemp("report"), source="samples").folder


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as tools:
        # Chromium's sandbox is refused to root.
        options = ["--no-sandbox"] if os.geteuid() == 0 else []
        browser = tools.chromium.launch(executable_path=CHROMIUM, args=options)
        yield browser
        browser.close()


@pytest.fixture
def tab(browser):
    """Open a tab of a size in a colour scheme. What went wrong in any is looked at when the test ends."""
    wrong: list[str] = []
    contexts = []

    def open_tab(size=DESK, scheme="light", **options):
        context = browser.new_context(viewport={"width": size[0], "height": size[1]}, color_scheme=scheme, offline=True,
                                      **options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(LIMIT_MS)
        page.on("console", lambda message: wrong.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: wrong.append(f"exception: {error}"))
        page.on("requestfailed", lambda request: wrong.append(f"failed: {request.url}"))
        page.on("request", lambda request: wrong.append(f"network: {request.url}")
                if not request.url.startswith(("file:", "data:", "blob:")) else None)
        return page

    yield open_tab
    for context in contexts:
        context.close()
    assert wrong == []


def open_page(page, site, name):
    """Open a page and wait until every plot is drawn; the number of plots."""
    page.goto((site / f"{name}.html").as_uri())
    plots = page.locator(".plot")
    for number in range(plots.count()):
        plots.nth(number).scroll_into_view_if_needed()
        page.wait_for_function("place => place.dataset.drawn === 'yes'", arg=plots.nth(number).element_handle())
    return plots.count()


def check(page, name, size, scheme, count):
    """What holds for every page at every size in every scheme; a picture of it is kept."""
    assert page.locator("h1").count() == 1 and page.title()
    assert page.locator(".plot .plot-container").count() == count
    # Something is drawn in each: points, lines or bars.
    marks = page.locator(".plot").evaluate_all(
        "plots => plots.map(plot => plot.querySelectorAll('.scatterlayer path, .barlayer path').length)")
    assert len(marks) == count and all(marks), f"{name}: an empty plot, {marks}"
    wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert wide <= 0, f"{name} is {wide} pixels wider than the screen"
    beyond = page.locator(".plot-card, .headline, .plot svg.main-svg").evaluate_all(
        "boxes => boxes.map(box => box.getBoundingClientRect()).filter(box => box.left < 0 || "
        "box.right > innerWidth + 0.5).length")
    assert beyond == 0, f"{name}: {beyond} boxes stand out of the screen"
    kept = build_root() / "report" / "screenshots"
    kept.mkdir(parents=True, exist_ok=True)
    page.evaluate("scrollTo(0, 0)")
    page.screenshot(path=kept / f"{name}-{scheme}-{size[0]}.png", full_page=name in ("index", "fisslock"))


@pytest.mark.parametrize(("size", "schemes"), [(PHONE, ("light", "dark")), (DESK, ("dark", "light"))],
                         ids=["phone", "desk"])
def test_every_page(tab, site, size, schemes):
    """Opened in one scheme, and then changed to the other."""
    page, drawn = tab(size, schemes[0]), 0
    for name in NAMES:
        page.emulate_media(color_scheme=schemes[0])
        count = open_page(page, site, name)
        check(page, name, size, schemes[0], count)
        page.emulate_media(color_scheme=schemes[1])
        page.wait_for_timeout(100)
        check(page, name, size, schemes[1], count)
        drawn += count
    assert drawn > 20


def test_every_page_is_reached_from_every_other(tab, site):
    page = tab(PHONE, java_script_enabled=False)
    page.goto((site / "index.html").as_uri())
    for name in [*NAMES[1:], "index"]:
        page.locator(f'nav a[href="{name}.html"]').click()
        page.wait_for_url(re.compile(f"/{name}.html$"))
        found = page.locator("nav a").evaluate_all("links => links.map(link => link.getAttribute('href'))")
        assert found == [f"{one}.html" for one in NAMES]
        assert page.locator('nav a[aria-current="page"]').get_attribute("href") == f"{name}.html"


def test_plots_follow_the_scheme(tab, site):
    page = tab(DESK, "light")
    assert open_page(page, site, "fisslock")

    def colours():
        return page.evaluate("""() => ['.bars path', '.xtick text', '.legend .symbol, .legend rect'].map(
            one => { const found = document.querySelector(one); return found && getComputedStyle(found).fill; })""")

    light = colours()
    page.emulate_media(color_scheme="dark")
    page.wait_for_function("old => getComputedStyle(document.querySelector('.xtick text')).fill !== old", arg=light[1])
    dark = colours()
    assert all(dark) and all(old != new for old, new in zip(light, dark, strict=True))


def test_values_open_with_the_keyboard(tab, site):
    page = tab(PHONE)
    open_page(page, site, "fisslock")
    card = page.locator(".plot-card", has=page.locator(".plot")).first
    assert not card.locator("table").is_visible()
    card.locator("summary").focus()
    page.keyboard.press("Enter")
    assert card.locator("table").is_visible()
    assert page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth") <= 0


def test_without_scripts_the_tables_are_there(tab, site):
    page = tab(PHONE, java_script_enabled=False)
    page.goto((site / "fisslock.html").as_uri())
    assert page.locator("noscript .missing").is_visible()
    page.locator(".plot-card summary").first.click()
    assert page.locator(".plot-card table").first.is_visible()
