// Where a person is. A start puts the focus on the answers, where keys vote; the address follows the comparison, and Back goes to the one
// before; what is on the page is kept for who comes back to it from another one.
rgtg.starting = (() => {
  let from = null, open = 0, heard = true, stopping = 0; // starts that have not ended; until when Stop is still to be pressed, in ms
  const yet = () => open > 0 && !heard;
  const answers = () => document.getElementById("columns");
  function start(fresh = true) {
    const home = answers();
    if (!home) return;
    if (fresh) {
      open += 1;
      heard = false;
    }
    stopping = 0;
    from = document.activeElement;
    for (const [name, value] of Object.entries({ tabindex: "-1", role: "group", "aria-label": "Answers" })) home.setAttribute(name, value);
    home.focus({ preventScroll: true });
  }
  function ended(failed) {
    open = failed ? 0 : Math.max(0, open - 1);
    if (failed && document.activeElement === answers() && from?.isConnected) from.focus({ preventScroll: true });
  }
  document.addEventListener("click", (event) => { if (event.target.closest?.("#generate, #run-again, .opening")) start(); });
  document.addEventListener("change", (event) => { if (event.target.id === "openings-more") start(); });
  document.addEventListener("click", (event) => { if (yet() && event.target.closest?.("#stop")) stopping = Infinity; });
  document.addEventListener("rgtg:comparison", () => {
    heard = true;
    if (!stopping) return;
    stopping = performance.now() + 2000;
    stopSoon();
  });
  // there was nothing to stop when it was pressed; the columns are drawn with a later frame
  function stopSoon() {
    if (performance.now() > stopping) return;
    if (!rgtg.running()) return void setTimeout(stopSoon, 50);
    stopping = 0;
    document.getElementById("stop").click();
  }
  return { start, ended, yet };
})();

rgtg.asked = () => new URL(location.href).searchParams.get("comparison") ?? "";
rgtg.restoring = null; // the draft that is on its way to the page
document.addEventListener("rgtg:restored", () => { rgtg.restoring = null; });
// JSON of what was on the page, if it was left at what the address names, or the address names nothing; its prompt is put back at once
rgtg.draft = () => {
  let prompt = "", draft = {};
  try { [prompt, draft] = JSON.parse(sessionStorage.getItem("rgtg-draft") || '["", {}]'); } catch { /* nothing was kept */ }
  const address = new URL(location.href), draftComparison = draft.comparison ?? "";
  if (address.searchParams.has("lineup") || (rgtg.asked() && rgtg.asked() !== draftComparison)) return "{}";
  if (draftComparison && !rgtg.asked()) {
    address.searchParams.set("comparison", draftComparison);
    history.replaceState(null, "", address);
  }
  const box = document.querySelector("#prompt textarea");
  if (prompt && box && !box.value) {
    box.value = prompt;
    box.dispatchEvent(new Event("input", { bubbles: true }));
  }
  if (draft.settings) rgtg.restoring = draft;
  return JSON.stringify({ ...draft, prompt: !!box?.value });
};

rgtg.address = (element, props, trigger) => {
  let shown = "";
  rgtg.hear(element, "comparison", ({ comparison }) => {
    shown = comparison;
    if (shown) rgtg.restoring = null;
    if (!shown || shown === rgtg.asked()) return;
    const address = new URL(location.href);
    address.searchParams.delete("lineup");
    address.searchParams.set("comparison", shown);
    history.pushState(null, "", address);
  });
  rgtg.hear(element, "column", ({ column }) => {
    const prompt = rgtg.views[column].head?.prompt ?? "";
    if (column === "A") document.title = prompt ? `${prompt.length > 60 ? prompt.slice(0, 59) + "…" : prompt} – rgtg` : "rgtg";
  });
  // open a comparison in place, as a link to it would
  rgtg.goTo = (comparison) => {
    const address = new URL(location.href);
    address.search = "?comparison=" + encodeURIComponent(comparison);
    if (rgtg.running()) return void location.assign(address);
    if (comparison !== rgtg.asked()) history.pushState(null, "", address);
    trigger("open", { comparison });
  };
  addEventListener("popstate", () => {
    if (!element.isConnected || rgtg.asked() === shown) return;
    if (rgtg.running()) location.reload(); // what is still on its way must not come over the other one
    else trigger("open", { comparison: rgtg.asked() });
  });
  addEventListener("pagehide", () => {
    const columns = Object.fromEntries(Object.entries(rgtg.currentColumns ?? {}).map(([letter, value]) => [letter, JSON.stringify(value())]));
    const draft = { comparison: shown, settings: JSON.stringify(rgtg.currentSettings?.() ?? {}), columns };
    try { sessionStorage.setItem("rgtg-draft", JSON.stringify([document.querySelector("#prompt textarea")?.value ?? "", rgtg.restoring ?? draft])); } catch { /* then it is not kept */ }
  });
};
