// The vote bar: always live, one key, one key back. Value: {comparison, traces: [[letter, id]…], verdict, best, note}.
rgtg.voteBar = (element, props, trigger, watch) => {
  const { el } = rgtg;
  const root = element.querySelector(".drawn");
  let value = {}, since = 0, buttons = {};
  const newId = () => Array.from(crypto.getRandomValues(new Uint8Array(16)), (b) => b.toString(16).padStart(2, "0")).join("");

  function cast(verdict, best) {
    if (!value.comparison) return;
    value.verdict = verdict;
    value.best = best;
    press();
    note.textContent = "saving …";
    const seen = value.traces.filter(([letter]) => rgtg.views[letter]?.steps.length).map(([, id]) => id);
    trigger("vote", { comparison: value.comparison, verdict, best, seen, vote_id: newId(), dwell_ms: Math.round(performance.now() - since) });
  }
  const button = (name, key, label, title, act) => (buttons[name] = el("button", { id: "vote-" + name, type: "button", class: "vote", title, "aria-pressed": "false", onclick: act }, key ? el("kbd", { text: key }) : null, label));
  const note = el("span", { id: "vote-note", role: "status" });

  function draw() {
    const found = JSON.parse(props.value || "{}");
    if (found.comparison !== value.comparison) since = performance.now();
    value = { traces: [], ...found };
    const letters = value.traces.map(([letter]) => letter);
    for (const letter of "ABCDEFGH") {
      buttons[letter].hidden = !letters.includes(letter) && (value.comparison ? true : letter > "D");
      buttons[letter].disabled = !letters.includes(letter);
    }
    for (const name of ["tie", "all_bad", "skip", "undo"]) buttons[name].disabled = !value.comparison;
    link.disabled = !value.comparison;
    note.textContent = value.note || "";
    press();
  }
  function press() {
    for (const [name, node] of Object.entries(buttons)) {
      const trace = value.traces?.find(([letter]) => letter === name)?.[1];
      node.setAttribute("aria-pressed", String(value.verdict === name || (value.verdict === "best" && !!trace && trace === value.best)));
    }
  }
  async function copy() {
    const address = new URL(location.href);
    address.search = "?comparison=" + encodeURIComponent(value.comparison);
    try {
      await navigator.clipboard.writeText(address.href);
      note.textContent = "link copied";
    } catch {
      window.prompt("Link to this comparison", address.href);
    }
  }
  const link = el("button", { id: "copy-link", type: "button", class: "plain", title: "Copy the address of this comparison", onclick: copy, text: "Copy link" });
  root.append(el("span", { class: "ask", text: "Which is best?" }));
  [..."ABCDEFGH"].forEach((letter, i) => root.append(button(letter, String(i + 1), letter, `${letter} is best (key ${i + 1})`, () => cast("best", value.traces.find(([l]) => l === letter)?.[1]))));
  root.append(
    button("tie", "T", "Tie", "Equally good (key T)", () => cast("tie", null)),
    button("all_bad", "N", "All bad", "None is good (key N)", () => cast("all_bad", null)),
    button("skip", "S", "Skip", "No opinion (key S)", () => cast("skip", null)),
    button("undo", "U", "Undo", "Take the vote back (key U)", () => { if (value.comparison) { note.textContent = "taking back …"; trigger("undo", { comparison: value.comparison }); } }),
    note,
    link,
    el("button", { id: "export", type: "button", class: "plain", title: "Download the votes as training pairs", onclick: () => trigger("export", {}), text: "Export" }),
  );
  watch("value", draw);
  draw();
};

// Keys. Quiet while typing and with Ctrl, Alt or Meta held; Ctrl+Enter generates from anywhere.
document.addEventListener("keydown", (event) => {
  const click = (id) => { const node = document.getElementById(id); if (node && !node.disabled && !node.hidden) { node.click(); return true; } return false; };
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) { event.preventDefault(); return void click("generate"); }
  if (event.key === "Escape") {
    const popover = document.querySelector("details.more[open]");
    if (popover) { popover.open = false; popover.querySelector("summary").focus(); }
    else if (rgtg.running()) click("stop");
    else if (event.target.closest?.("input, textarea, select")) event.target.blur();
    else rgtg.close();
    return;
  }
  const target = event.target;
  if (event.ctrlKey || event.altKey || event.metaKey || event.isComposing || event.repeat) return;
  if (target.closest?.('input, textarea, select, [contenteditable=""], [contenteditable="true"]')) return;
  const name = { 1: "A", 2: "B", 3: "C", 4: "D", 5: "E", 6: "F", 7: "G", 8: "H", t: "tie", n: "all_bad", s: "skip", u: "undo" }[event.key.toLowerCase()];
  if (name && click("vote-" + name)) event.preventDefault();
});
