// Earlier comparisons: a search, filters, and the list, which grows as it is scrolled. The value is JSON (pages/history.py); the list keeps
// what came before and asks for the next page behind its last entry. An entry is a link; on Compare a click opens it in place.
rgtg.historyList = (element, props, trigger, watch, find, choose) => {
  const { el } = rgtg;
  const root = element.querySelector(".drawn");
  const NOBODY = [["", "all"], ["yes", "voted on"], ["no", "not voted on"], ["me", "voted on by me"]];
  let entries = [], more = false, chosen = "", timer = 0, filters = {};

  const value = (node) => node.value;
  const search = el("input", { type: "search", id: props.name + "-search", placeholder: "search prompts and answers", "aria-label": "Search prompts and answers", autocomplete: "off", spellcheck: "false" });
  const picker = (name, label, choices) => rgtg.field({ label, choices }, "", `${props.name}-${name}`, () => ask());
  let method = picker("method", "Method", [["", "any method"]]), model = picker("model", "Model", [["", "any model"]]), voted = picker("voted", "Votes", NOBODY);
  const date = (name, label) => el("input", { type: "date", id: `${props.name}-${name}`, "aria-label": label, title: label, onchange: () => ask() });
  const since = date("since", "From this day on (UTC)"), until = date("until", "Up to this day (UTC)");
  const note = el("p", { class: "quiet", role: "status" });
  const list = el("ol", { class: "entries", "aria-label": "Comparisons, newest first" });
  const further = el("button", { type: "button", class: "plain", hidden: true, text: "Show more", onclick: () => ask(true) });
  const pickers = el("div", { class: "filters" });
  const bar = () => pickers.replaceChildren(method, model, voted, el("span", { class: "dates" }, since, "–", until));
  bar();
  root.append(el("div", { class: "find" }, search, pickers), note, list, further);

  function ask(next = false) {
    clearTimeout(timer);
    list.setAttribute("aria-busy", "true");
    const sent = { search: value(search).trim(), method: value(method), model: value(model), voted: value(voted), since: value(since), until: value(until) };
    trigger(find, next ? { ...sent, before: entries.at(-1)?.comparison } : sent);
  }
  search.addEventListener("input", () => { clearTimeout(timer); timer = setTimeout(ask, 200); });
  search.addEventListener("keydown", (event) => { if (event.key === "Enter") { event.preventDefault(); ask(); } });

  const address = (comparison) => "./?comparison=" + encodeURIComponent(comparison);
  function row(entry) {
    const methods = entry.answers.map(([letter, name, models]) => `${letter} ${name}${models.length ? ` · ${models.join(", ")}` : ""}`);
    const open = el("a", { href: address(entry.comparison), class: "prompt", "data-comparison": entry.comparison, "aria-current": entry.comparison === chosen ? "true" : null, dir: "auto", text: entry.prompt.trim() });
    open.addEventListener("click", (event) => {
      if (props.links && !rgtg.goTo) return; // the link does it
      if (event.ctrlKey || event.metaKey || event.shiftKey || event.button) return;
      event.preventDefault();
      if (props.links) rgtg.goTo(entry.comparison);
      else { mark(entry.comparison); trigger(choose, { comparison: entry.comparison }); }
    });
    const votes = entry.votes > 1 ? `${entry.votes} votes` : entry.votes === 1 && !entry.vote ? "1 vote" : "";
    return el("li", {},
      el("div", { class: "line" }, open, el("time", { datetime: entry.at, title: new Date(entry.at).toLocaleString(), text: rgtg.age(entry.at) })),
      el("div", { class: "methods", title: methods.join("\n"), text: methods.join("  ") }),
      el("div", { class: "answer", dir: "auto", text: (entry.answers[0]?.[3] ?? "").trim() }),
      entry.vote || votes ? el("div", { class: "voted" }, entry.vote && el("b", { text: entry.vote }), entry.vote && votes ? " · " : "", votes) : null);
  }
  function mark(comparison) {
    chosen = comparison;
    for (const link of list.querySelectorAll("a")) link.toggleAttribute("aria-current", false);
    list.querySelector(`a[data-comparison="${CSS.escape(comparison)}"]`)?.setAttribute("aria-current", "true");
  }
  function refill(select, choices) {
    const kept = value(select);
    return rgtg.field({ label: select.getAttribute("aria-label"), choices }, choices.some(([key]) => key === kept) ? kept : "", select.id, () => ask());
  }
  function draw() {
    const update = JSON.parse(props.value || "{}");
    if (!update.entries) return;
    list.removeAttribute("aria-busy");
    if (update.filters) {
      filters = update.filters;
      const focused = document.activeElement?.id;
      method = refill(method, [["", "any method"], ...filters.methods.map((name) => [name, name])]);
      model = refill(model, [["", "any model"], ...filters.models.map((name) => [name, name])]);
      voted = refill(voted, [...NOBODY, ...filters.raters.map(([id, words]) => [id, "voted on by " + words])]);
      bar();
      if (pickers.querySelector("#" + CSS.escape(focused || "none"))) document.getElementById(focused).focus();
    }
    const fresh = update.entries.map(row);
    if (update.append) list.append(...fresh);
    else list.replaceChildren(...fresh);
    entries = update.append ? [...entries, ...update.entries] : update.entries;
    more = update.more;
    further.hidden = !more;
    const filtered = value(search).trim() || value(method) || value(model) || value(voted) || value(since) || value(until);
    note.textContent = entries.length ? (filtered ? `${entries.length}${more ? " or more" : ""} found` : filters.num ? `${filters.num.toLocaleString("en")} comparison${filters.num === 1 ? "" : "s"}` : "") : filtered ? "Nothing was found. Remove a filter, or search for fewer words." : "There are no comparisons yet.";
  }
  new IntersectionObserver((seen) => { if (seen.some((one) => one.isIntersecting) && more && !list.hasAttribute("aria-busy")) ask(true); }).observe(further);
  watch("value", draw);
  draw();
  rgtg.hear(element, "imported", () => ask());
  if (!props.links) setTimeout(ask, 0); // a list on a page; the drawer asks when it is opened
  return { ask: () => ask(), search, mark };
};

rgtg.age = (at) => {
  const minutes = Math.floor((Date.now() - new Date(at)) / 60_000);
  if (minutes < 1) return "now";
  if (minutes < 60) return `${minutes} min`;
  if (minutes < 24 * 60) return `${Math.floor(minutes / 60)} h`;
  const date = new Date(at);
  return date.toLocaleDateString("en-GB", { day: "numeric", month: "short", ...(date.getFullYear() === new Date().getFullYear() ? {} : { year: "numeric" }) });
};

// The drawer on Compare: opened by its button in the vote bar or by the key H, closed by Escape.
rgtg.historyDrawer = (element, props, trigger, watch, find, choose) => {
  const { el } = rgtg;
  const root = element.querySelector(".drawn");
  const list = rgtg.historyList(element, props, trigger, watch, find, choose);
  const close = el("button", { type: "button", class: "plain", "aria-label": "Close the history", title: "Close (Esc)", text: "×", onclick: () => show(false) });
  root.prepend(el("div", { class: "drawer-head" }, el("h2", { text: "History" }), el("a", { href: "./data", text: "all data" }), close));
  root.classList.add("drawer");
  Object.entries({ role: "dialog", "aria-label": "History", hidden: "" }).forEach(([name, word]) => root.setAttribute(name, word));
  let from = null;
  function show(open) {
    if (open === !root.hidden) return;
    root.hidden = !open;
    document.getElementById("history-open")?.setAttribute("aria-expanded", String(open));
    if (open) {
      from = document.activeElement;
      list.mark(rgtg.asked());
      list.ask(); // what came since it was open last is on top
      list.search.focus();
    } else if (from?.isConnected) from.focus({ preventScroll: true });
  }
  rgtg.hear(element, "history", () => show(root.hidden));
  rgtg.hear(element, "comparison", ({ comparison }) => list.mark(comparison));
  root.addEventListener("keydown", (event) => { if (event.key === "Escape") { event.stopPropagation(); show(false); } });
};
