"""From the key of a vote to the next pair on screen, over 20 pairs on the starter at a key a second: `python -m tests.annotate_speed`.

Prints each time, from the key's event to the frame in which the next pair stands, and the 95th percentile.
"""

import statistics
import sys
import tempfile
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parent / "browser")]

NUM_PAIRS, EVERY_MS = 20, 1000
WATCH = """
window.times = [];
document.addEventListener("keydown", (event) => {
  const pressed = event.timeStamp, shown = () => document.querySelector(".ann-pair:not([hidden])")?.dataset.pair, before = shown();
  if (!before || !["1", "2"].includes(event.key)) return;
  const look = () => (shown() && shown() !== before ? setTimeout(() => window.times.push(performance.now() - pressed)) : requestAnimationFrame(look));
  requestAnimationFrame(look);
}, true);
"""


def main() -> None:
    import shutil

    from browser_app import serving
    from playwright.sync_api import sync_playwright

    from rgtg.config import Settings
    from rgtg.workbench.annotation.tasks import Task
    from rgtg.workbench.workbench import Workbench

    with tempfile.TemporaryDirectory() as folder, sync_playwright() as p:
        workbench = Workbench(Settings(data_dir=Path(folder)))
        workbench.start_loading()
        workbench.wait_until_ready(300)
        task = workbench.annotation.add_task(Task("Speed", tuple(workbench.openings()), ()), workbench.default_columns())
        browser = p.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu"])
        with serving(workbench) as address:
            page = browser.new_page(viewport={"width": 1280, "height": 900})
            page.add_init_script(WATCH)
            page.goto(f"{address}annotate?task={task.id}")
            page.wait_for_selector(".ann-pair:not([hidden])", timeout=120_000)
            page.keyboard.press("Enter")
            for number in range(NUM_PAIRS):
                page.wait_for_timeout(EVERY_MS)
                page.wait_for_selector(".ann-pair:not([hidden])", timeout=60_000)  # one that is late counts for the key before
                page.keyboard.press("12"[number % 2])
            page.wait_for_function(f"window.times.length >= {NUM_PAIRS}", timeout=60_000)
            times = sorted(page.evaluate("window.times"))
        browser.close()
        workbench.close()
    print("ms from key to next pair:", " ".join(f"{ms:.0f}" for ms in times))
    print(f"median {statistics.median(times):.0f} ms, p95 {statistics.quantiles(times, n=20)[-1]:.0f} ms, of {len(times)} pairs at a key a second")


if __name__ == "__main__":
    main()
