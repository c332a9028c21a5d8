// The vote bar: always live, one key, one key back. Value: {comparison, traces: [[letter, id]…], verdict, best, stopped, note, answers}:
// `stopped` where there is more to come, `answers` the id of the vote or the undo that it answers, `refused` where that was not stored.
rgtg.voteBar = (element, props, trigger, watch) => {
  const { el } = rgtg;
  const root = element.querySelector(".drawn");
  let value = {}, since = 0, buttons = {}, word = "";
  const newId = () => Array.from(crypto.getRandomValues(new Uint8Array(16)), (b) => b.toString(16).padStart(2, "0")).join("");
  const tokens = rgtg.voteTokens();
  const outbox = rgtg.outbox((act) => trigger(act.kind, { ...tokens.with(act), vote_id: act.id }), (lost) => { if (lost) word = lost; show(); });

  function say(act) {
    if (!value.comparison) return;
    word = rgtg.starting.yet() ? "the new answers have not started yet" : "";
    if (!word) outbox.put({ id: newId(), comparison: value.comparison, ...act });
    show();
  }
  function cast(verdict, best) {
    const seen = (value.traces ?? []).filter(([letter, id]) => rgtg.views[letter]?.steps.length && rgtg.views[letter].head?.trace === id).map(([, id]) => id);
    say({ kind: "vote", verdict, best, seen, dwell_ms: Math.round(performance.now() - since) });
  }
  function goOn() {
    rgtg.starting.start(false);
    more.hidden = true;
    trigger("go_on", { comparison: value.comparison });
  }
  const button = (name, key, label, title, act) => (buttons[name] = el("button", { id: "vote-" + name, type: "button", class: "vote", title, "data-key": key, "aria-pressed": "false", onclick: act }, key ? el("kbd", { text: key }) : null, label));
  const note = el("span", { id: "vote-note", role: "status" });
  const more = el("button", { id: "vote-go-on", type: "button", class: "plain", title: "Continue the answers from where they were stopped", hidden: true, onclick: goOn, text: "Continue" });

  function draw() {
    const update = JSON.parse(props.value || "{}");
    tokens.note(update.comparison, update.token);
    if (update.answers) outbox.answered(update.answers);
    if (update.answers && (update.refused || update.comparison !== value.comparison)) {
      // what it says of the comparison is not known, or the page shows another one by now
      word = update.comparison === value.comparison ? update.note : `previous comparison: ${update.note}`;
      props.value = JSON.stringify(value);
      return show();
    }
    const other = update.comparison !== value.comparison;
    if (other) since = performance.now();
    value = { traces: [], ...update };
    word = "";
    const letters = value.traces.map(([letter]) => letter);
    for (const letter of props.letters) {
      buttons[letter].disabled = !letters.includes(letter);
    }
    offer();
    for (const name of ["tie", "all_bad", "skip", "undo"]) buttons[name].disabled = !value.comparison;
    link.disabled = copyAs.disabled = !value.comparison;
    show();
    if (other) rgtg.tell("comparison", { comparison: value.comparison ?? "" });
    if (value.comparison) outbox.resume();
  }
  // the answers that there are; before there are any, those that there will be
  function offer() {
    const letters = value.comparison ? value.traces.map(([letter]) => letter) : [...props.letters].slice(0, rgtg.currentSettings?.().columns ?? 0);
    for (const letter of props.letters) buttons[letter].hidden = !letters.includes(letter);
  }
  // what the server said last, and over it what it has not answered yet
  function show() {
    const waiting = outbox.of(value.comparison), last = waiting.at(-1);
    const vote = waiting.filter((act) => act.kind === "vote").at(-1) ?? value;
    for (const [name, node] of Object.entries(buttons)) {
      const trace = value.traces?.find(([letter]) => letter === name)?.[1];
      node.setAttribute("aria-pressed", String(vote.verdict === name || (vote.verdict === "best" && !!trace && trace === vote.best)));
    }
    const kept = outbox.away() ? "not saved yet: the app does not respond · it will be sent again" : last?.kind === "undo" ? "undoing …" : "saving …";
    note.textContent = last ? kept : word || value.note || "";
    more.hidden = !value.stopped || !!last;
  }
  function copy() {
    const address = new URL(location.href);
    address.search = "?comparison=" + encodeURIComponent(value.comparison);
    put(address.href, "link copied", "Link to this comparison");
  }
  async function put(text, done, title) {
    try {
      await navigator.clipboard.writeText(text);
      word = done;
      show();
    } catch {
      window.prompt(title, text);
    }
  }
  const link = el("button", { id: "copy-link", type: "button", class: "plain", title: "Copy the address of this comparison", onclick: copy, text: "Copy link" });
  root.append(el("span", { class: "ask", text: "Which is best?" }));
  const keyOf = (i) => (i < 9 ? String(i + 1) : ""); // one press is one key
  [...props.letters].forEach((letter, i) => root.append(button(letter, keyOf(i), letter, `${letter} is best` + (keyOf(i) && ` (key ${keyOf(i)})`), () => cast("best", value.traces.find(([l]) => l === letter)?.[1]))));
  const copyAs = rgtg.field({ label: "Copy as", choices: [["", "Copy as …"], ...props.forms.map((form) => [form, form])], help: "Copy what makes this comparison again: a command, a Python script or JSON" }, "", "copy-as", (form) => {
    if (form) trigger("copy_as", { comparison: value.comparison, form });
    copyAs.value = "";
  });
  rgtg.copied = (text) => put(text, "copied", "What makes this comparison again");
  root.append(
    button("tie", "T", "Tie", "Equally good (key T)", () => cast("tie", null)),
    button("all_bad", "N", "All bad", "None is good (key N)", () => cast("all_bad", null)),
    button("skip", "S", "Skip", "No opinion (key S)", () => cast("skip", null)),
    button("undo", "U", "Undo", "Undo the vote (key U)", () => say({ kind: "undo" })),
    note,
    more,
    el("button", { id: "history-open", type: "button", class: "plain", title: "Earlier comparisons (key H)", "data-key": "H", "aria-expanded": "false", onclick: () => rgtg.tell("history"), text: "History" }),
    link,
    copyAs,
    el("button", { id: "sweep-this", type: "button", class: "plain", title: "Try a grid of weights on this prompt", "aria-expanded": "false", "aria-controls": "sweep", onclick: () => rgtg.tell("sweep"), text: "Sweep this" }),
    ...(props.exports ? [el("button", { id: "export", type: "button", class: "plain", title: "Download the votes as preference pairs (JSONL)", onclick: () => trigger("export", {}), text: "Export" })] : []),
  );
  watch("value", draw);
  rgtg.hear(element, "settings", offer);
  draw();
  setTimeout(outbox.resume, 3000); // where the page shows no comparison
};

// Keys. Quiet while typing and with Ctrl, Alt or Meta held; Ctrl+Enter generates from anywhere.
document.addEventListener("keydown", (event) => {
  const click = (id) => { const node = document.getElementById(id); if (node && !node.disabled && !node.hidden) { node.click(); return true; } return false; };
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) { event.preventDefault(); return void click("generate"); }
  if (event.key === "Escape") {
    const popover = document.querySelector("details.more[open]");
    if (popover) { popover.open = false; popover.querySelector("summary").focus(); }
    else if (rgtg.running() || rgtg.starting.yet()) click("stop");
    else if (event.target.closest?.("input, textarea, select")) event.target.blur();
    else rgtg.close();
    return;
  }
  const target = event.target;
  if (event.ctrlKey || event.altKey || event.metaKey || event.isComposing || event.repeat) return;
  if (target.closest?.('input, textarea, select, [contenteditable=""], [contenteditable="true"]')) return;
  const button = [...document.querySelectorAll("#vote [data-key]")].find((node) => node.dataset.key === event.key.toUpperCase());
  if (button && click(button.id)) event.preventDefault();
});
