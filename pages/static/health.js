// How far votes are copied out, in the foot, and what a visitor has to know before he votes, above the page (rgtg/workbench/serving/health.py).
rgtg.health = (element) => {
  const EVERY_MS = 60_000, SOON_MS = 5_000;
  function notice(text) {
    let shown = document.getElementById("server-notice");
    if (!text) return shown?.remove();
    if (!shown) {
      shown = rgtg.el("p", { id: "server-notice", role: "status" });
      const header = document.getElementById("header");
      (header.closest(".row") ?? header).before(shown);
    }
    if (shown.textContent !== text) shown.textContent = text;
  }
  async function look() {
    if (!element.isConnected) return;
    let again = SOON_MS; // while it starts, or is away
    try {
      const { status, copies } = await (await fetch(new URL("./health", location.href))).json(); // not relative: Gradio sets <base>
      element.querySelector("#votes-copied").textContent = copies.words;
      notice(copies.notice);
      if (status !== "loading") again = EVERY_MS;
    } catch { /* the server is away, which Gradio says */ }
    setTimeout(look, again);
  }
  look();
};
