"""The page in headless Chromium, on a server with the trained demo model: what a user sees, and what they can do.

Run by ``make page-check``: it needs Chromium and Selenium.
"""

from __future__ import annotations

import json
import re
import time
import urllib.request
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from support.browser import chromium, prefer, resize, wait
from support.layout import ROOT
from support.serving import serving

pytestmark = pytest.mark.page

QUERY = "play music in a terminal"
EXAMPLE = (ROOT / "demo" / "documents.txt").read_text().splitlines()
FILLER = "A lightweight HTTP server for static pages. "
ANSWER = "Terminal music player 🎶 with playlists, gapless playback and an equalizer. "
RANKED = "!document.querySelector('[aria-busy]') && document.querySelectorAll('#ranking li').length"
FAILED = "document.querySelector('#note.failed')?.textContent"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as driver:
        yield driver


@pytest.fixture(scope="module")
def server(demo: Path) -> Iterator[str]:
    with serving(demo) as running:
        yield running.url


@pytest.fixture
def page(browser: Any, server: str) -> Any:
    """The page, newly opened, in the size and with the preferences that most people have."""
    return opened(browser, server)


def opened(browser: Any, address: str) -> Any:
    resize(browser, 1280)
    prefer(browser, color_scheme="light", reduced_motion="no-preference")
    browser.get(address)
    wait(browser, "document.querySelector('#state').textContent !== 'Connecting'")
    browser.get_log("browser"), browser.get_log("performance")  # those of the page before
    return browser


def ask(server: str, documents: list[str], **more: Any) -> list[dict[str, Any]]:
    """The results of the server itself."""
    body = json.dumps({"query": QUERY, "documents": documents, **more}).encode()
    request = urllib.request.Request(f"{server}/v2/rerank", body, {"content-type": "application/json"})
    with urllib.request.urlopen(request) as answer:
        return json.load(answer)["results"]


def enter(page: Any, documents: str, query: str = QUERY) -> None:
    """Put texts into the form as a paste does, which, unlike typing, may hold emoji."""
    for name, text in (("query", query), ("documents", documents)):
        page.execute_script(
            "const field = document.getElementById(arguments[0]); field.value = arguments[1];"
            "field.dispatchEvent(new Event('input', {bubbles: true}))",
            name,
            text,
        )


def press(page: Any, name: str) -> None:
    page.find_element("xpath", f"//button[normalize-space()='{name}']").click()


def rank(page: Any, documents: str, query: str = QUERY) -> None:
    enter(page, documents, query)
    press(page, "Rank")
    wait(page, RANKED)


def places(page: Any) -> list[dict[str, Any]]:
    """What the list shows of each document."""
    return page.execute_script("""
        return [...document.querySelectorAll('#ranking li')].map((li) => ({
            index: li.querySelector('.index').textContent,
            score: li.querySelector('.score').textContent,
            share: li.querySelector('.fill').offsetWidth / li.querySelector('.bar').offsetWidth,
            text: li.querySelector('.text').textContent,
            marks: [...li.querySelectorAll('mark')].map((mark) => mark.textContent),
        }))""")


def requested(page: Any) -> list[str]:
    """The addresses that the page has requested since the last call."""
    messages = [json.loads(entry["message"])["message"] for entry in page.get_log("performance")]
    return [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]


def test_the_example_is_ranked_as_the_server_ranks_it(page: Any, server: str) -> None:
    press(page, "Example")
    assert wait(page, RANKED) == len(EXAMPLE)
    time.sleep(0.5)  # the bars grow
    shown, expected = places(page), ask(server, EXAMPLE)
    assert [place["index"] for place in shown] == [f"index {result['index']}" for result in expected]
    assert [place["score"] for place in shown] == [f"{result['relevance_score']:.4f}" for result in expected]
    assert [place["share"] for place in shown] == pytest.approx([r["relevance_score"] for r in expected], abs=0.01)
    assert [place["text"] for place in shown] == [EXAMPLE[result["index"]] for result in expected]
    assert not any(place["marks"] for place in shown)  # each document is one part


def test_it_shows_tokens_and_times(page: Any) -> None:
    press(page, "Example")
    wait(page, RANKED)
    names, values = ([e.text for e in page.find_elements("css selector", f"#facts {tag}")] for tag in ("dt", "dd"))
    facts = dict(zip(names, values, strict=True))
    assert int(facts.pop("tokens")) > 8 * 10
    assert list(facts) == ["tokenise", "queue", "run", "total"]
    assert all(re.fullmatch(r"[\d.,]+ m?s", value) for value in facts.values())


def test_a_part_of_a_long_document_is_marked_where_the_server_found_it(page: Any, server: str) -> None:
    """Emoji are two units of UTF-16 each, and the server counts code points."""
    document = ("🎵😀 " + FILLER * 30 + ANSWER * 8 + FILLER * 30).strip()
    rank(page, document)
    short = places(page)[0]
    assert len(short["text"]) < len(document) / 2
    page.find_element("css selector", "#ranking button").click()
    spans = ask(server, [document], relevant_spans={"mode": "enabled", "max_spans": 1})[0]["relevant_spans"]
    expected = [document[span["start"] : span["end"]] for span in spans]
    assert spans[0]["score"] > 0.5
    assert ANSWER in expected[0]
    assert places(page)[0]["text"] == document
    assert places(page)[0]["marks"] == short["marks"] == expected


def test_parts_that_overlap_are_marked_once(page: Any, server: str) -> None:
    document = (FILLER * 30 + ANSWER * 16 + FILLER * 30).strip()
    rank(page, document)
    page.find_element("css selector", "#ranking button").click()
    spans = ask(server, [document], relevant_spans={"mode": "enabled"})[0]["relevant_spans"]
    best = [span for span in spans if span["score"] >= max(s["score"] for s in spans) / 2]
    best.sort(key=lambda span: span["start"])
    assert len(best) > 1
    assert all(first["end"] >= second["start"] for first, second in pairwise(best))
    assert places(page)[0]["text"] == document
    assert places(page)[0]["marks"] == [document[best[0]["start"] : max(span["end"] for span in best)]]


def test_documents_without_a_match_have_no_marks(page: Any) -> None:
    rank(page, f"{FILLER * 60}\n{FILLER * 30}{ANSWER * 8}")
    assert [len(place["marks"]) for place in places(page)] == [1, 0]


def test_documents_between_blank_lines_and_the_number_shown(page: Any) -> None:
    page.find_element("css selector", "[value=blank]").click()
    page.find_element("id", "top").send_keys("1")
    rank(page, f"A music player\nfor the terminal.\n \n\n{EXAMPLE[0]}\n{EXAMPLE[6]}\n")
    assert page.find_element("id", "count").text == "2 documents"
    assert [place["text"] for place in places(page)] == ["A music player\nfor the terminal."]


def test_texts_are_never_markup(page: Any) -> None:
    hostile = "<img src=x onerror='window.broken = 1'> <script>window.broken = 1</script> <b>bold</b>"
    rank(page, f"{hostile}\n{EXAMPLE[0]}", query=hostile)
    assert hostile in [place["text"] for place in places(page)]
    assert page.find_elements("css selector", "#ranking :is(img, script, b)") == []
    assert page.execute_script("return window.broken") is None


def test_the_keyboard_alone_ranks(page: Any) -> None:
    from selenium.webdriver import ActionChains, Keys

    def type_keys(*keys: str) -> Any:
        ActionChains(page).send_keys(*keys).perform()
        return page.switch_to.active_element

    while type_keys(Keys.TAB).get_attribute("id") != "query":
        pass
    assert type_keys(QUERY, Keys.TAB).get_attribute("id") == "documents"
    type_keys(EXAMPLE[0], Keys.ENTER, EXAMPLE[1])
    ActionChains(page).key_down(Keys.CONTROL).send_keys(Keys.ENTER).key_up(Keys.CONTROL).perform()
    assert wait(page, RANKED) == 2
    assert places(page)[0]["text"] == EXAMPLE[1]
    for name in ("line", "model", "top", "key", "Rank", "example", "pause"):
        element = type_keys(Keys.TAB)
        assert name in (element.get_attribute("id"), element.get_attribute("value"), element.text)
        assert element.value_of_css_property("outline-style") == "solid"  # the focus can be seen


def test_it_loads_nothing_from_elsewhere_and_breaks_no_rule(page: Any, server: str) -> None:
    page.get(server)
    press(page, "Example")
    wait(page, RANKED)
    addresses = requested(page)
    assert f"{server}/page.js" in addresses
    assert {urlsplit(address).netloc for address in addresses} == {urlsplit(server).netloc}
    assert page.get_log("browser") == []
    page.execute_script("document.body.append(Object.assign(document.createElement('script'), {textContent: '1'}))")
    assert "Content Security Policy" in page.get_log("browser")[0]["message"]  # such logs would have been seen


# The contrast of each text with the first background behind it that is not transparent.
CONTRASTS = """
    const channels = (color) => color.match(/[\\d.]+/g).map(Number);
    const light = (color) => channels(color).slice(0, 3)
        .map((c) => c / 255).map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4))
        .reduce((sum, c, place) => sum + c * [0.2126, 0.7152, 0.0722][place], 0);
    const ground = (e) => {
        const color = getComputedStyle(e).backgroundColor;
        return channels(color)[3] === 0 ? ground(e.parentElement) : color;
    };
    const texts = [...document.body.querySelectorAll('*')].filter((e) => e.offsetParent &&
        (e.matches('input, textarea, select') || [...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim())));
    return texts.map((e) => {
        const [a, b] = [light(getComputedStyle(e).color), light(ground(e))];
        return [e.textContent.trim().slice(0, 40), (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05)];
    });"""


def test_dark_and_light_are_both_readable(page: Any) -> None:
    rank(page, f"{FILLER * 30}{ANSWER * 8}{FILLER * 30}\n{EXAMPLE[0]}")
    assert page.find_element("css selector", "mark").is_displayed()
    grounds = set()
    for scheme in ("light", "dark"):
        prefer(page, color_scheme=scheme)
        grounds.add(page.execute_script("return getComputedStyle(document.body).backgroundColor"))
        contrasts = page.execute_script(CONTRASTS)
        assert len(contrasts) > 30
        assert [(scheme, text, value) for text, value in contrasts if value < 4.5] == []
    assert len(grounds) == 2


def test_assistive_technology_finds_names_headings_and_the_list(page: Any) -> None:
    press(page, "Example")
    wait(page, RANKED)
    controls = page.find_elements("css selector", "input, textarea, select, button")
    assert len(controls) >= 9
    assert [control.get_attribute("outerHTML") for control in controls if not control.accessible_name] == []
    levels = page.execute_script("return [...document.querySelectorAll('h1, h2, h3')].map((h) => +h.tagName[1])")
    assert levels[0] == 1
    assert all(second - first <= 1 for first, second in pairwise(levels))
    assert page.execute_script("return document.documentElement.lang") == "en"
    assert page.title == "modernrank"
    assert page.find_element("id", "note").get_attribute("aria-live") == "polite"
    assert page.find_element("id", "ranking").aria_role == "list"


def test_it_fits_a_telephone(page: Any) -> None:
    resize(page, 360, 700)
    rank(page, "\n".join([*EXAMPLE, "w" * 400]))
    assert page.execute_script("return document.documentElement.scrollWidth") == 360
    assert page.execute_script("return document.getElementById('result').getBoundingClientRect().top") < 700


def test_bars_move_unless_the_user_prefers_none(page: Any) -> None:
    press(page, "Example")
    wait(page, RANKED)
    moving = "getComputedStyle(document.querySelector('.fill')).animationName"
    assert page.execute_script(f"return {moving}") != "none"
    prefer(page, reduced_motion="reduce")
    assert page.execute_script(f"return {moving}") == "none"


def numbers(page: Any) -> dict[str, str]:
    """The load of the model."""
    rows = page.execute_script(
        "return [...document.querySelectorAll('.model dl div')].map((row) => "
        "[row.querySelector('dt').textContent, row.querySelector('dd').textContent])"
    )
    return dict(rows)


def test_the_load_follows_the_server(page: Any, server: str) -> None:
    assert page.find_element("id", "state").text == "Ready"
    assert "int8 on cpu" in page.find_element("css selector", ".model h3").text
    assert list(numbers(page))[:4] == ["waiting calls", "waiting tokens", "running", "estimated wait"]
    wait(page, "document.querySelector('polyline').getAttribute('points')")
    ask(server, EXAMPLE)
    wait(page, "/: [1-9]\\d* pairs/.test(document.querySelector('.history').textContent)")
    assert re.fullmatch(r"[\d,]+", numbers(page)["tokens/s"])


def test_polling_can_be_paused(page: Any, server: str) -> None:
    press(page, "Pause")
    time.sleep(0.2)  # one may be on its way
    requested(page)
    time.sleep(2.5)
    assert requested(page) == []
    press(page, "Resume")
    time.sleep(2.5)
    assert requested(page).count(f"{server}/status") in (2, 3)


def answered(server: str) -> int:
    """The number of requests that the server has answered."""
    with urllib.request.urlopen(f"{server}/metrics") as answer:
        return sum(
            int(float(count)) for count in re.findall(rb"(?m)^modernrank_requests_total{.*} (.*)$", answer.read())
        )


def test_a_hidden_tab_does_not_poll(page: Any, server: str) -> None:
    first = page.current_window_handle
    page.switch_to.new_window("tab")
    time.sleep(0.5)
    before = answered(server)
    time.sleep(2.5)
    assert answered(server) == before + 1  # the question itself
    page.close()
    page.switch_to.window(first)
    time.sleep(2.5)
    assert answered(server) >= before + 4


def test_refusals_are_shown_with_the_servers_message(browser: Any, demo: Path) -> None:
    with serving(demo, "--max-documents", 5, "--request-timeout", 0.02) as running:
        page = opened(browser, running.url)
        press(page, "Example")
        assert "max_documents is 5" in wait(page, FAILED)
        enter(page, "\n".join([FILLER * 400] * 5))
        press(page, "Rank")
        wait(page, f"{FAILED}?.endsWith('Try again in 1 second.')")
        assert places(page) == []


def test_a_server_with_a_key_asks_for_it(browser: Any, demo: Path) -> None:
    from selenium.webdriver import Keys

    with serving(demo, env={"MODERNRANK_API_KEYS": "secret"}) as running:
        page = opened(browser, running.url)
        assert page.find_element("id", "state").text == "Key required"
        press(page, "Example")
        assert "key" in wait(page, FAILED)
        key = page.switch_to.active_element
        assert key.get_attribute("id") == "key"
        key.send_keys("secret", Keys.CONTROL, Keys.ENTER)
        assert wait(page, RANKED) == len(EXAMPLE)
        wait(page, "document.querySelector('#state').textContent === 'Ready'")
        assert wait(page, "document.querySelector('#model').options.length > 1")


def test_a_server_that_ended_is_reported(browser: Any, demo: Path) -> None:
    with serving(demo) as running:
        page = opened(browser, running.url)
        running.signal()
        running.wait()
        press(page, "Example")
        assert "cannot be reached" in wait(page, FAILED)
        wait(page, "document.querySelector('#state').textContent === 'Not reachable'")
