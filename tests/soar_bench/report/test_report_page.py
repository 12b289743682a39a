"""The report as a reader has it: opened from disk in a headless browser, without a network."""

from __future__ import annotations

import itertools
import shutil
from functools import partial

import numpy as np
import pytest
from PIL import Image
from report_by_hand import PROMPTS, TOO_DARK, details_of, hand_run, hand_runs, image_of, value_of
from report_reader import IN_BROWSER, LOW_CONTRAST, Reader

from soar_bench.report.page import Options, write_report

pytestmark = IN_BROWSER

NAMES = ["base", "sft, seed 0", "sft, seed 1", "<b>soar</b>"]
#: What the page shows without a choice: of seeds the first.
FIRST = [0, 1, 3]
HIGHER = {"right": True, "distance": False, "read": True}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Four runs under 20 steps and two under 10; one image of the base is missing."""
    place = tmp_path_factory.mktemp("page")
    runs = hand_runs(place / "results", place / "cache")
    runs.append(
        hand_run(place / "results", place / "cache", 0, "base", steps=10, metrics=("right",))
    )
    runs.append(hand_run(place / "results", None, 4, "other", steps=10, metrics=("right",)))
    write_report(runs, Options(place / "report", place / "cache"))
    return place / "report"


@pytest.fixture()
def open_page(open_report, folder):
    """open_page(fragment, **context) -> a Reader of the folder's report."""
    return partial(open_report, folder)


SAMPLES = [(p, k) for p in range(len(PROMPTS)) for k in range(2)]


def gain(metric, a, b, sample):
    """How much better a is than b, computed from the table that the records were made from."""
    left, right = (value_of(c, *sample, metric)[0] for c in (a, b))
    if left is None or right is None:
        return None
    return left - right if HIGHER[metric] else right - left


def named(samples):
    return [[PROMPTS[p][0], k] for p, k in samples]


# ---- opening ---------------------------------------------------------------------------------


def test_it_opens_from_disk_with_all_images_and_no_error(open_page):
    reader = open_page()
    page = reader.page
    assert page.inner_text("#count") == "12 of 12 samples"
    for card in page.query_selector_all(".card"):
        card.scroll_into_view_if_needed()
    reader.until("[...document.querySelectorAll('.card img')].every((i) => i.complete)")
    sizes = page.evaluate(
        "[...document.querySelectorAll('.card img')].map((i) => [i.naturalWidth, i.width > 0])"
    )
    assert len(sizes) == 12 * 3
    assert all(size in ([16, True], [256, True]) for size in sizes)
    assert page.evaluate(
        "[...document.querySelectorAll('.card img')]"
        ".every((i) => i.loading === 'lazy' && i.decoding === 'async')"
    )


def test_columns_are_the_checkpoints_on_the_same_sample(open_page, folder):
    reader = open_page()
    for sample in (2, 9):
        p, k = SAMPLES[sample]
        images = reader.page.evaluate(
            """(sample) => [...document.querySelectorAll(`[data-sample="${sample}"] img`)].map(
                 (image) => [image.alt, image.getAttribute("src")])""",
            sample,
        )
        for c, (alt, source) in zip(FIRST, images, strict=True):
            right = value_of(c, p, k, "right")[0]
            assert alt == f"{PROMPTS[p][1]} — {NAMES[c]}, right {right:.3f}"
            assert np.array_equal(np.asarray(Image.open(folder / source)), image_of(c, p, k))


def test_right_and_wrong_reasons_and_recognised_text_are_shown(open_page):
    reader = open_page()
    for s, (p, k) in enumerate(SAMPLES):
        tiles = reader.page.query_selector_all(f'.card[data-sample="{s}"] .tile')
        for c, tile in zip(FIRST, tiles, strict=True):
            text = tile.inner_text()
            right = value_of(c, p, k, "right")[0]
            assert ("✓ right" if right else "✗ wrong") in text
            assert ("expected 2 cats, found <0>" in text) == (not right)
            read = details_of(c, p, k, "read").get("recognised")
            assert (f"reads “{read[0]}”" in text) if read else "reads" not in text


def test_hostile_texts_stay_text(open_page):
    reader = open_page()
    page = reader.page
    shown = [page.evaluate("(e) => e.textContent", e) for e in page.query_selector_all(".card h3")]
    assert shown == [PROMPTS[p][1] for p, _ in SAMPLES]
    assert page.query_selector("main img[onerror], main script, .card b, .card i, .card u") is None
    page.click(".card:nth-child(5) .tile")
    assert page.inner_text("#large-title") == PROMPTS[2][1]
    assert "<b>dog</b>" in page.inner_text("#large-told")
    assert page.query_selector("#large-told b, #large-told u") is None
    assert "<u>far</u>" in page.inner_text("#large-told")


# ---- filters ---------------------------------------------------------------------------------


@pytest.mark.parametrize("metric", ["right", "distance", "read"])
def test_wins_losses_ties_and_unscored_are_those_of_the_records(open_page, metric):
    reader = open_page()
    reader.choose(metric=metric, size="96")
    for a, b in itertools.permutations((0, 2, 3), 2):
        reader.choose(a=NAMES[a], b=NAMES[b])
        gains = {s: gain(metric, a, b, s) for s in SAMPLES}
        expected = {
            "wins": [s for s, g in gains.items() if g is not None and g > 0],
            "losses": [s for s, g in gains.items() if g is not None and g < 0],
            "ties": [s for s, g in gains.items() if g == 0],
            "unscored": [s for s in SAMPLES if any(value_of(c, *s, metric)[1] for c in range(4))],
            "everything": SAMPLES,
        }
        for show, samples in expected.items():
            reader.choose(show=show)
            assert reader.samples() == named(samples), (metric, a, b, show)
            assert reader.page.inner_text("#count").startswith(f"{len(samples)} of 12 samples")


@pytest.mark.parametrize("task", ["colors", "counting", "sign"])
def test_the_task_filter_keeps_its_prompts(open_page, task):
    reader = open_page()
    reader.choose(task=task)
    assert reader.samples() == named([s for s in SAMPLES if PROMPTS[s[0]][2] == task])


@pytest.mark.parametrize(
    ("order", "key"),
    [
        ("biggest changes", lambda s: -abs(gain("distance", 3, 0, s) or 0)),
        ("biggest gains", lambda s: -gain("distance", 3, 0, s)),
        ("biggest drops", lambda s: gain("distance", 3, 0, s)),
        ("best first", lambda s: value_of(3, *s, "distance")[0]),
        ("worst first", lambda s: -value_of(3, *s, "distance")[0]),
    ],
)
def test_the_order_is_that_of_the_values_and_unscored_come_last(open_page, order, key):
    reader = open_page()
    reader.choose(metric="distance", a=NAMES[3], b=NAMES[0], sort=order)
    known = [s for s in SAMPLES if value_of(3, *s, "distance")[0] is not None]
    unknown = [s for s in SAMPLES if s not in known]
    assert reader.samples() == named([*sorted(known, key=key), *unknown])


def test_suite_and_protocol_change_the_board(open_page):
    reader = open_page()
    reader.choose(protocol="hand+steps=10")
    reader.until("document.querySelectorAll('.tile .absent').length > 0")
    names = {e.inner_text() for e in reader.page.query_selector_all(".tile .name")}
    assert names == {"base", "other"}
    assert "12 images are not shown" in reader.page.inner_text("#missing")
    reader.page.click("#missing summary")
    assert "soar-bench eval other" in reader.page.inner_text("#missing code")
    assert "board=b2" in reader.state()
    reader.choose(protocol="hand")
    assert reader.page.is_hidden("#missing")


def test_every_seed_is_shown_if_asked(open_page):
    reader = open_page()
    first = ".card:first-child .tile .name"
    assert [e.inner_text() for e in reader.page.query_selector_all(first)] == [
        NAMES[c] for c in FIRST
    ]
    reader.page.check("#seeds")
    assert [e.inner_text() for e in reader.page.query_selector_all(first)] == NAMES


@pytest.mark.parametrize(
    ("words", "prompts"),
    [("CATS", [1]), ("dog red", [0]), ("<script", [2]), ("p5", [5]), ("café", [4]), ("xyz", []),
     ("a", [0, 1, 2, 3, 4, 5]), ("alert(", [2, 3, 4])],
)  # fmt: skip
def test_search_finds_words_in_any_order(open_page, words, prompts):
    reader = open_page()
    reader.page.fill("#search", words)
    assert reader.samples() == named([s for s in SAMPLES if s[0] in prompts])
    if not prompts:
        assert "nothing matches" in reader.page.inner_text("#count")


def test_the_address_keeps_the_state(open_page):
    reader = open_page()
    reader.choose(metric="distance", a=NAMES[3], b=NAMES[2], show="losses", sort="biggest drops")
    reader.page.fill("#search", "a")
    again = open_page(reader.state())
    assert again.samples() == reader.samples()
    for name in ("metric", "a", "b", "show", "sort"):
        chosen = f"document.getElementById('{name}').value"
        assert again.page.evaluate(chosen) == reader.page.evaluate(chosen)
    assert again.page.input_value("#search") == "a"
    again.page.click("#reset")
    assert len(again.samples()) == 12
    assert again.state() == "#gallery"


@pytest.mark.parametrize(
    "fragment",
    ["#gallery?board=b9&metric=99&a=-1&b=x&page=1000&size=0&show=<b>&sort=?&task=x", "#gallery?%",
     "#gallery?q=%3Cimg+src%3Dx+onerror%3Dalert(1)%3E"],
)  # fmt: skip
def test_an_address_that_makes_no_sense_does_no_harm(open_page, fragment):
    reader = open_page(fragment)
    assert "samples" in reader.page.inner_text("#count")


def test_pages_are_turned(open_page):
    reader = open_page()
    reader.choose(size="8")
    assert reader.samples() == named(SAMPLES[:8])
    reader.page.click("#next")
    assert reader.samples() == named(SAMPLES[8:])
    assert reader.page.inner_text("#page") == "page 2 of 2"
    assert reader.page.is_disabled("#next")
    reader.page.keyboard.press("[")
    assert reader.samples() == named(SAMPLES[:8])


# ---- keyboard and the large view -------------------------------------------------------------


def test_the_keyboard_searches_walks_enlarges_and_helps(open_page):
    reader = open_page()
    page, press = reader.page, reader.page.keyboard.press
    press("/")
    reader.until("document.activeElement.id == 'search'")
    page.keyboard.type("cats")
    reader.comes(lambda: len(reader.samples()), 2)
    press("Escape")
    reader.comes(lambda: len(reader.samples()), 12)
    reader.until("document.activeElement.id != 'search'")
    press("?")
    page.wait_for_selector("#help", state="visible")
    press("Escape")
    page.wait_for_selector("#help", state="hidden")
    page.focus(".card:first-child .tile")
    for key in ("ArrowRight", "ArrowRight", "ArrowRight", "ArrowDown", "ArrowDown", "ArrowLeft"):
        press(key)
    reader.comes(reader.focused, ["p1", 0, FIRST[1]])
    press("Enter")
    reader.comes(lambda: page.inner_text("#large-title"), "two cats")
    reader.comes(lambda: page.inner_text("#large-told h3 >> nth=0"), NAMES[1])
    press("ArrowRight")
    reader.comes(lambda: page.inner_text("#large-told h3 >> nth=0"), NAMES[3])
    press("ArrowDown")
    press("Escape")
    page.wait_for_selector("#large", state="hidden")
    reader.comes(reader.focused, ["p1", 1, FIRST[2]])


def test_walking_past_the_end_turns_the_page(open_page):
    reader = open_page()
    reader.choose(size="8")
    reader.page.focus(".card:last-child .tile")
    reader.page.keyboard.press("ArrowDown")
    reader.comes(reader.focused, ["p4", 0, 0])
    assert reader.page.inner_text("#page") == "page 2 of 2"


def test_the_large_view_has_the_full_image_all_scores_and_boxes(open_page):
    reader = open_page()
    page = reader.page
    page.click(".card:first-child .tile")
    reader.until("document.querySelector('#large-stage img').complete")
    image = image_of(0, 0, 0)
    assert (
        page.evaluate("document.querySelector('#large-stage img').naturalWidth") == image.shape[1]
    )
    told = page.inner_text("#large-told")
    assert f"{value_of(0, 0, 0, 'distance')[0]:.2f}" in told
    assert "unscored: the prompt quotes no text" in told
    assert "512 × 384 pixels" in told
    overlay = page.query_selector("#large-stage svg")
    assert overlay.get_attribute("viewBox") == "0 0 512 384"
    box = overlay.query_selector("rect:not(.halo)")
    assert [box.get_attribute(n) for n in ("x", "y", "width", "height")] == ["2", "3", "7", "9"]
    assert overlay.query_selector("text").text_content() == "red <b>dog</b> 0.90"


def test_detections_can_be_hidden(open_page):
    reader = open_page()
    assert reader.page.query_selector(".tile rect")
    reader.page.uncheck("#boxes")
    assert reader.page.query_selector(".tile rect") is None
    reader.page.keyboard.press("d")
    reader.page.focus("body")
    assert "boxes=0" in reader.state() or reader.page.query_selector(".tile rect")


def test_an_unscored_sample_says_why(open_page):
    reader = open_page()
    reader.choose(metric="distance", show="unscored")
    assert reader.samples() == [["p1", 1]]
    assert f"unscored: {TOO_DARK}" in reader.page.inner_text(".card .tile")


def test_a_file_that_has_gone_from_the_report_is_said_to_be_missing(browser, folder, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    for file in (copy / "images").iterdir():
        file.unlink()
    reader = Reader(browser, copy)
    reader.page.query_selector("#cards").scroll_into_view_if_needed()
    reader.page.wait_for_selector(".tile .absent")
    assert "its file has gone" in reader.page.inner_text(".tile .absent")
    reader.context.close()


# ---- looks -----------------------------------------------------------------------------------


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_all_text_stands_out_in_both_themes(open_page, theme):
    reader = open_page(color_scheme=theme)
    reader.page.evaluate("document.querySelectorAll('details').forEach((d) => { d.open = true; })")
    contrast = reader.page.evaluate(LOW_CONTRAST)
    assert contrast["seen"] > 300
    assert contrast["low"] == []
    reader.page.click(".tile >> nth=1")
    assert reader.page.evaluate(LOW_CONTRAST)["low"] == []


def test_the_theme_is_the_systems_until_it_is_chosen_and_then_remembered(open_page):
    reader = open_page(color_scheme="dark")
    back = "getComputedStyle(document.body).backgroundColor"
    dark = reader.page.evaluate(back)
    assert reader.page.inner_text("#theme") == "Light theme"
    reader.page.click("#theme")
    light = reader.page.evaluate(back)
    assert light != dark
    reader.page.reload()
    assert reader.page.evaluate(back) == light


def test_a_phone_needs_no_sideways_scrolling(open_page):
    reader = open_page(viewport={"width": 375, "height": 812}, has_touch=True)
    page = reader.page
    page.evaluate("document.querySelectorAll('details').forEach((d) => { d.open = true; })")
    assert page.evaluate("document.documentElement.scrollWidth") <= 375
    page.tap(".tile >> nth=1")
    width = page.evaluate(
        "document.querySelector('#large-stage img').getBoundingClientRect().width"
    )
    assert 250 < width <= 375
    assert page.evaluate("document.querySelector('#large').scrollTop") == 0


def test_structure_labels_and_names_for_a_screen_reader(open_page):
    reader = open_page()
    page = reader.page
    levels = page.evaluate(
        "[...document.querySelectorAll('main h1, main h2, main h3, main h4, main h5, header h1')]"
        ".map((h) => Number(h.tagName[1]))"
    )
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
    assert page.evaluate(
        "[...document.querySelectorAll('select, input')].every((e) => e.labels.length === 1)"
    )
    assert page.evaluate("[...document.images].every((i) => i.alt.length > 5)")
    assert page.evaluate("[...document.querySelectorAll('th')].every((e) => e.scope)")
    assert page.evaluate(
        "[...document.querySelectorAll('svg.plot')].every((e) => e.getAttribute('aria-label'))"
    )
    page.keyboard.press("Tab")
    assert page.inner_text(":focus") == "Skip to the gallery"
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineWidth")
    assert float(outline.removesuffix("px")) >= 2


def test_nothing_moves_for_who_wants_no_motion(open_page):
    scroll = "getComputedStyle(document.documentElement).scrollBehavior"
    assert open_page(reduced_motion="reduce").page.evaluate(scroll) == "auto"
