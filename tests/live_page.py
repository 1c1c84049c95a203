"""Uses the live page of a running `tts serve` in headless Chromium, and takes a picture of it:

    python3 tests/live_page.py http://127.0.0.1:8080 [page.png]        (needs selenium, chromium and chromedriver)
"""

import sys
import time

from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

PROBLEM = "Let a_1 = 3 and a_{n+1} = 5 a_n + 7 mod 23. Find a_20."
# its traces disagree, so that many are stopped
DISPUTED = "Find the remainder when 7^53 is divided by 23."


def expect(what, right):
    if not right:
        raise SystemExit(f"{what} is not as it should be")


def main():
    url, picture = sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else None
    options = webdriver.ChromeOptions()
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--window-size=1180,1450", "--hide-scrollbars"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    browser = webdriver.Chrome(options=options)
    at = lambda name: browser.find_element(By.ID, name)
    wait = WebDriverWait(browser, 120)
    try:
        browser.get(url)
        wait.until(lambda _: at("model").text)
        expect("the list of strategies", len(at("strategy").find_elements(By.TAG_NAME, "option")) > 10)

        # a problem of the bundled model's is a click away
        example = browser.find_elements(By.CSS_SELECTOR, "#examples button")[1]
        example.click()
        expect("the example", at("problem").get_attribute("value") == example.text != "")

        def solve(problem, strategy="", **numbers):
            at("problem").clear()
            at("problem").send_keys(problem)
            browser.execute_script("document.getElementById('strategy').value = arguments[0]", strategy)
            for name in ("traces", "slots", "seed"):
                at(name).clear()
                if name in numbers:
                    at(name).send_keys(str(numbers[name]))
            at("go").click()

        # while it runs, numbers move and lines are drawn
        browser.execute_script(
            "window.seen = new Set(); const tokens = document.getElementById('tokens');"
            "new MutationObserver(() => seen.add(tokens.textContent)).observe(tokens, { childList: true })"
        )
        solve(DISPUTED, "deepconf-low", traces=256, slots=16, seed=2)
        wait.until(lambda _: browser.execute_script("return seen.size") > 2)
        drawn = "const c = document.getElementById('%s'); return c.getContext('2d').getImageData(0, 0, c.width, c.height).data.some(v => v > 0)"
        expect("the plot", browser.execute_script(drawn % "plot"))
        wait.until(lambda _: at("go").is_enabled())
        expect("no complaint", not at("error").is_displayed())
        expect("the answer", at("answer").text.isdigit())
        expect("the votes", len(at("votes").find_elements(By.TAG_NAME, "li")) >= 1)
        expect("the strips", browser.execute_script(drawn % "strips"))
        expect("the legend", "stopped below the bar" in at("legend").text)
        cut = "return [...document.querySelectorAll('#votes span, .card b')].some(e => e.scrollWidth > e.clientWidth + 1)"
        expect("answers and figures in full", not browser.execute_script(cut))
        pixels = "return document.getElementById('plot').toDataURL()"
        by_fate = browser.execute_script(pixels)
        browser.execute_script("const by = document.getElementById('by'); by.value = 'answer'; by.dispatchEvent(new Event('change'))")
        wait.until(lambda _: "answer " + at("answer").text in at("legend").text)
        expect("colours by answer", browser.execute_script(pixels) != by_fate)
        browser.execute_script("const by = document.getElementById('by'); by.value = 'fate'; by.dispatchEvent(new Event('change'))")
        wait.until(lambda _: "stopped below the bar" in at("legend").text)
        if picture:
            time.sleep(0.3)
            browser.save_screenshot(picture)

        # a single trace is read while it is written, and is whole at the end
        solve(PROBLEM, "majority", traces=1)
        wait.until(lambda _: at("go").is_enabled())
        expect("the text of a single trace", at("text").is_displayed() and "boxed" in at("solution").get_attribute("textContent"))

        # stopping it hangs up, which frees its traces
        solve(PROBLEM, "majority", traces=512, slots=1)
        wait.until(lambda _: at("stop").is_displayed())
        at("stop").click()
        wait.until(lambda _: at("go").is_enabled())
        expect("the word that it was stopped", "stopped" in at("error").text)

        # what the server refuses is shown as it says it
        solve(PROBLEM, traces=100000)
        wait.until(lambda _: at("go").is_enabled() and at("error").is_displayed())
        expect("a refusal", "`traces` must be" in at("error").text)

        # markup in a problem is text
        solve("<img src=x onerror=alert(1)> 1 + 1", "majority", traces=2)
        wait.until(lambda _: at("go").is_enabled())
        expect("no script of a problem", not browser.find_elements(By.CSS_SELECTOR, "img"))
        severe = [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE" and "400" not in entry["message"]]
        expect(f"the browser's log {severe}", not severe)
    finally:
        browser.quit()
    print("the page works")


main()
