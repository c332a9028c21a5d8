// The Annotate page. Pairs are here before they are shown, so that a key shows the next one at once and only what was said is sent: by the
// outbox, in order, and again under the same id while the app is away. Value: what the page begins with, or the answer to an event.
rgtg.annotate = (element, props, trigger, watch) => {
  const { el } = rgtg;
  const AHEAD = 3; // pairs that are here, the one that is read included
  const STRENGTHS = ["slightly", "clearly", "much"], STRENGTH_KEYS = ["J", "K", "L"];
  const root = element.querySelector(".drawn"), task = new URL(location.href).searchParams.get("task") ?? "";
  const newId = () => Array.from(crypto.getRandomValues(new Uint8Array(16)), (b) => b.toString(16).padStart(2, "0")).join("");
  let state = null, ready = [], done = [], since = 0, word = "", asking = 0, ended = false, unsent = null;
  const tokens = rgtg.voteTokens();
  const outbox = rgtg.outbox((act) => trigger(act.kind, { ...tokens.with(act), task, vote_id: act.id }), (lost) => { if (lost) word = lost; tell(); }, "rgtg-annotated");

  // ---- the pairs that are here
  const here = () => ready[0];
  function take(fed) {
    asking = 0;
    const known = new Set([...ready, ...done.map((one) => one.pair)].map((pair) => pair.id));
    for (const pair of fed.pairs ?? []) tokens.note(pair.id, pair.token);
    const fresh = (fed.pairs ?? []).filter((pair) => !known.has(pair.id)).map((pair) => rgtg.annotated(pair));
    if (!places) return; // of a page that shows no task
    places.append(...fresh.map((pair) => pair.node));
    const branches = fresh.filter((pair) => pair.branch !== undefined); // they may come with an answer to `more`, too
    ready = [...branches, ...ready, ...fresh.filter((pair) => pair.branch === undefined)];
    if (fed.asked) ended = !!fed.ended;
    word = fed.note || (fed.branched || branches.length ? "" : word);
    show();
    if (fed.note && !fed.branched) setTimeout(stock, 3000);
    else if (fed.asked && !fresh.length) setTimeout(stock, 300);
    else stock();
  }
  function stock() {
    if (!state || ended || ready.length >= AHEAD || (asking && performance.now() - asking < 8000)) return;
    asking = performance.now();
    rgtg.feed.ask({ task, have: [...ready, ...done.map((one) => one.pair)].map((pair) => pair.id) });
  }
  let shown = null;
  function show() {
    const pair = here();
    if (pair !== shown) {
      if (shown) shown.node.hidden = true;
      if (pair) pair.node.hidden = false;
      shown = pair;
      since = performance.now();
      if (document.activeElement === document.body || root.contains(document.activeElement)) places.focus({ preventScroll: true });
    }
    empty.hidden = !!pair;
    empty.textContent = ended && !pair ? "That was the last pair. Thank you!" : "The next pair is being generated …";
    ranking.of(pair, ranks());
    ask.textContent = ranks() ? "Which is best, and next?" : "Which is best?";
    for (const name of ["1", "2", "3", "4"]) buttons[name].hidden = Number(name) > (pair?.ids.length ?? state?.task.num_answers ?? 2);
    tell();
  }

  // ---- what a person says
  function vote(verdict, number, more = {}, ranking = []) {
    const pair = here();
    if (!pair || (verdict === "best" && !pair.ids[number])) return;
    const said = { verdict, best: verdict === "best" ? pair.ids[number] : null, ranking, strength: null, reasons: [], comment: "" };
    ready.shift();
    pair.undone = false;
    done.push({ pair, said, revisions: 1, number });
    while (done.length > 50) done.shift().pair.node.remove();
    word = "";
    const act = { id: newId(), kind: "vote", comparison: pair.id, ...said, guidelines: pair.guidelines, dwell_ms: Math.round(performance.now() - since), ...more };
    show(); // first what is to be seen
    outbox.put(act);
    stock();
  }
  function undo() {
    const last = done.at(-1);
    if (!last) { word = "there is nothing to undo"; return tell(); }
    outbox.put({ id: newId(), kind: "undo", comparison: last.pair.id });
    last.revisions -= 1;
    if (last.revisions > 0) { word = "undone"; return tell(); } // the answer says what stands
    done.pop();
    last.pair.undone = true;
    if (here()?.of === last.pair.id) ready.splice(1, 0, last.pair);
    else ready.unshift(last.pair);
    ended = false;
    word = "undone: vote on it again";
    show();
  }
  function detail(changes) {
    const last = done.at(-1);
    if (!last || last.said.verdict === "skip") return;
    Object.assign(last.said, changes);
    last.revisions += 1;
    outbox.put({ id: newId(), kind: "vote", comparison: last.pair.id, ...last.said, guidelines: last.pair.guidelines, dwell_ms: null });
    tell();
  }
  const strength = (number) => detail({ strength: done.at(-1)?.said.strength === number ? null : number });
  function reason(text) {
    const reasons = done.at(-1)?.said.reasons ?? [];
    detail({ reasons: reasons.includes(text) ? reasons.filter((one) => one !== text) : [...reasons, text] });
  }
  function mark(label) {
    const acts = here()?.mark(label) ?? [];
    for (const one of acts) outbox.put({ id: newId(), kind: "mark", comparison: here().id, ...one });
    if (!acts.length) word = "select tokens first: click, or the arrow keys";
    tell();
  }
  function branch() {
    const at = here()?.chosen();
    word = at ? "generating two continuations …" : "select a token first: click, or the arrow keys";
    if (at) rgtg.feed.branch({ task, comparison: here().id, trace: at.trace, position: at.index });
    tell();
  }

  // ---- the parts of the page
  const buttons = {};
  const ranks = () => !!state?.task.ranking && here()?.ids.length > 2;
  function choose(number) {
    if (!ranks()) return vote("best", number);
    ranking.press(number);
    places.focus({ preventScroll: true }); // so that Enter is "Done", not this button again
  }
  const button = (name, key, label, title, act) => (buttons[name] = el("button", { id: "say-" + name, type: "button", class: "vote", title: `${title} (key ${key})`, "data-key": key, onclick: act }, el("kbd", { text: key }), label));
  const places = el("div", { class: "ann-places", tabindex: "-1", role: "group", "aria-label": "Answers" });
  const empty = el("p", { class: "ann-empty quiet", role: "status", text: "The next pair is being generated …" });
  places.append(empty);
  const progress = el("span", { id: "ann-progress" }), meter = el("progress", { "aria-label": "Pairs voted on", max: "1", value: "0" }), title = el("b", { class: "ann-title" });
  const note = el("span", { id: "said", role: "status" }), reveal = el("span", { class: "ann-reveal" });
  const strengths = STRENGTHS.map((text, i) => el("button", { type: "button", class: "chip", "data-key": STRENGTH_KEYS[i], "aria-pressed": "false", title: `How sure: ${text} (key ${STRENGTH_KEYS[i]})`, onclick: () => strength(i + 1) }, el("kbd", { text: STRENGTH_KEYS[i] }), text));
  const reasons = el("span", { class: "chips" });
  const comment = el("input", { id: "said-comment", type: "text", maxlength: 2000, placeholder: "comment (key C, Enter saves)", "aria-label": "Comment on the vote before", dir: "auto", onkeydown: (event) => {
    if (event.key !== "Enter" && event.key !== "Escape") return;
    event.preventDefault();
    if (event.key === "Enter" && comment.value.trim() !== done.at(-1)?.said.comment) detail({ comment: comment.value.trim() });
    places.focus({ preventScroll: true });
  } });
  const gold = el("button", { id: "make-gold", type: "button", class: "plain", hidden: true, title: "Show this pair to other raters as one whose better answer is known: yours", text: "Use as gold pair", onclick: () => {
    trigger("gold", { task, comparison: done.at(-1).pair.id });
    done.at(-1).gold = true;
    word = "a gold pair for other raters";
    tell();
  } });
  const before = el("div", { class: "ann-before", role: "group", "aria-label": "The vote before" }, note, el("span", { class: "chips" }, ...strengths), reasons, comment, gold, reveal);
  const drawer = el("details", { class: "ann-drawer", id: "guidelines" }), menu = el("details", { class: "ann-drawer", id: "ann-you" });
  const consent = el("div", { id: "consent", class: "ann-consent", hidden: true },
    el("p", { text: "Your votes, marks and comments are stored with the time under a random number, not with your name or address, and may be used to train and evaluate models and be published. You can delete them under “You”." }),
    el("button", { id: "agree", type: "button", class: "go", text: "I agree", onclick: agree }));
  const ask = el("span", { class: "ask", text: "Which is best?" });
  const ranking = rgtg.ranking(button, (words) => { word = words || (word.startsWith("rank") ? "" : word); tell(); }, (verdict, number, levels) => vote(verdict, number, {}, levels));
  const bar = el("div", { class: "ann-bar", role: "group", "aria-label": "Vote" },
    ask,
    ...["1", "2", "3", "4"].map((key, i) => button(key, key, "", `Answer ${key} is best`, () => choose(i))),
    ...ranking.nodes,
    button("tie", "T", "Tie", "Equally good", () => vote("tie")),
    button("all_bad", "N", "All bad", "None is good", () => vote("all_bad")),
    button("skip", "S", "Skip", "No opinion", () => vote("skip")),
    button("undo", "U", "Undo", "Back to the vote before", undo),
    el("span", { class: "ann-marks" },
      button("good", "G", "Good", "Mark the selected tokens as good", () => mark("good")),
      button("bad", "X", "Bad", "Mark the selected tokens as bad", () => mark("bad")),
      button("goes_wrong", "W", "Wrong from here", "From this token on it goes wrong", () => mark("goes_wrong")),
      button("branch", "B", "Branch", "Two other continuations from this token", branch),
      button("broken", "F", "Flag", "This pair is broken: skip and flag it", () => vote("skip", undefined, { broken: true }))));
  function agree() {
    trigger("consent", { task });
    state.progress.consent = true; // the votes come behind it, in order
    tell();
    places.focus({ preventScroll: true });
  }
  function fill() {
    title.textContent = state.task.title;
    reasons.replaceChildren(...state.reasons.map((text, i) => el("button", { type: "button", class: "chip", "data-key": String(i + 5), "data-reason": text, "aria-pressed": "false", title: `Why (key ${i + 5})`, onclick: () => reason(text) }, el("kbd", { text: String(i + 5) }), text)));
    guide();
    const name = el("input", { id: "nickname", type: "text", maxlength: 40, "aria-label": "Nickname", value: state.nickname, autocomplete: "nickname", dir: "auto" });
    const keep = () => { document.cookie = `rgtg_nickname=${encodeURIComponent(name.value.trim())}; path=/; max-age=34560000; samesite=lax`; location.reload(); };
    const ask = el("span");
    const rest = () => rgtg.put(ask, el("button", { type: "button", id: "erase", text: "Delete my votes …", onclick: sure }));
    const sure = () => {
      rgtg.put(ask, el("span", { text: "Delete all your votes, marks and comments, on every page, permanently? " }), el("button", { type: "button", id: "erase-sure", text: "Delete", onclick: () => { trigger("erase", { task }); rest(); } }), el("button", { type: "button", id: "erase-not", text: "Cancel", onclick: rest }));
      ask.querySelector("#erase-not").focus();
    };
    rest();
    menu.replaceChildren(el("summary", { text: state.nickname ? `You: ${state.nickname}` : "You" }), el("div", { class: "popover" },
      el("p", { class: "help", text: "One browser profile is one rater; a nickname makes another one in the same browser." }),
      el("label", { class: "field" }, el("span", { text: "nickname" }), name), el("button", { type: "button", id: "nickname-keep", text: "Use", onclick: keep }), el("p", {}, ask)));
  }
  function guide() {
    const { version, text } = state.guidelines, area = el("textarea", { id: "guidelines-text", rows: "8", "aria-label": "Guidelines", dir: "auto" });
    area.value = text;
    drawer.replaceChildren(el("summary", { text: version ? `Guidelines (version ${version})` : "Guidelines", title: "What to look at (key H)" }), el("div", { class: "popover" },
      ...(state.may_change ? [area, el("button", { type: "button", id: "guidelines-save", text: "Save as a new version", onclick: () => trigger("guidelines", { task, text: area.value }) })]
        : [el("div", { class: "ann-guide", dir: "auto", text: text || "There are none: vote for the answer that you would rather read." })])));
  }

  // ---- what is said of the vote before
  function words(one) {
    const { verdict } = one.said, number = one.pair.ids.indexOf(one.said.best) + 1;
    if (one.said.ranking?.length) return rgtg.rankWords(one.said.ranking.map((level) => level.map((id) => one.pair.ids.indexOf(id))), one.pair.ids.length);
    return { best: `${number} is best`, tie: "tie", all_bad: "all bad", skip: "skipped" }[verdict] ?? "";
  }
  function tell() {
    if (!state) return;
    const last = done.at(-1), waiting = outbox.all();
    const votes = state.progress.voted + new Set(waiting.filter((act) => act.kind === "vote" && !act.confirmed && done.some((one) => one.pair.id === act.comparison && !one.confirmed)).map((act) => act.comparison)).size;
    progress.textContent = `${Math.min(votes, state.progress.num_pairs)} of ${state.progress.num_pairs}`;
    Object.assign(meter, { max: state.progress.num_pairs, value: votes });
    const sending = !waiting.length ? "" : outbox.away() ? "not saved yet: the app does not respond · it will be sent again" : "saving …";
    note.textContent = [word, last ? `before: ${words(last)}` : word ? "" : "no vote yet", sending || (last && !word ? "saved" : "")].filter(Boolean).join(" · ");
    const open = !!last && last.said.verdict !== "skip";
    strengths.forEach((node, i) => { node.disabled = !open; node.setAttribute("aria-pressed", String(open && last.said.strength === i + 1)); });
    for (const node of reasons.children) { node.disabled = !open; node.setAttribute("aria-pressed", String(open && last.said.reasons.includes(node.dataset.reason))); }
    comment.disabled = !open;
    gold.hidden = !state.may_change || last?.said.verdict !== "best" || !last.confirmed || !!last.gold;
    if (document.activeElement !== comment) comment.value = open ? last.said.comment : "";
    reveal.replaceChildren(...(last?.reveal ?? []).map(([method, settings, rewards], i) => el("span", { class: "ann-made" }, el("b", { text: `${i + 1} ${method}` }), ` ${[settings, rewards].filter(Boolean).join(" · ")}`)));
    consent.hidden = state.progress.consent;
    bar.hidden = !state.progress.consent;
    buttons.undo.disabled = !done.length;
  }
  function draw() {
    const update = JSON.parse(props.value || "{}");
    if (update.task) return void begin(update);
    if (!state) return;
    if (update.guidelines) { state.guidelines = update.guidelines; guide(); }
    if (update.progress?.at >= state.progress.at) state.progress = update.progress; // an answer may overtake another
    tokens.note(update.comparison, update.token);
    if (update.erased) {
      for (const one of done) one.pair.node.remove();
      done = [];
      word = update.erased;
    }
    const one = done.find((each) => each.pair.id === update.comparison);
    if (update.refused) {
      word = `not saved: ${update.refused}`;
      if (one && !one.confirmed) { done = done.filter((each) => each !== one); ready.unshift(one.pair); show(); }
    } else if (one) {
      one.confirmed = true;
      one.reveal = update.reveal;
      if (update.vote?.verdict && !outbox.all().some((act) => act.comparison === one.pair.id && act.id !== update.answers)) one.said = { ...update.vote };
    }
    // of a vote from before this page was opened, which had details: all of it is taken back
    const back = ready.find((pair) => pair.id === update.comparison && pair.undone);
    if (back && update.vote?.verdict && !outbox.all().some((act) => act.comparison === back.id && act.id !== update.answers)) outbox.put({ id: newId(), kind: "undo", comparison: back.id });
    if (update.answers) outbox.answered(update.answers);
    tell();
  }
  function begin(update) {
    state = update;
    document.title = `${state.task.title} – rgtg`;
    root.replaceChildren(el("div", { class: "ann-head" }, title, progress, meter, drawer, menu), before, places, el("div", { class: "ann-foot" }, consent, bar));
    for (const { pair, token } of update.done) tokens.note(pair.id, token ?? pair.token);
    done = update.done.map(({ pair, vote, reveal }) => ({ pair: rgtg.annotated(pair), said: { ...vote }, revisions: 1, confirmed: true, reveal }));
    places.append(...done.map((one) => one.pair.node));
    fill();
    show();
    if (unsent) take(unsent);
    outbox.resume();
    places.focus({ preventScroll: true });
  }
  rgtg.pairs = (fed) => { if (state) take(fed); else unsent = fed; };
  watch("value", draw);
  draw();

  // Keys: quiet while typing and with Ctrl, Alt or Meta held
  document.addEventListener("keydown", function keys(event) {
    if (!element.isConnected) return document.removeEventListener("keydown", keys);
    if (!state || event.ctrlKey || event.altKey || event.metaKey || event.isComposing) return;
    const open = root.querySelector(".ann-drawer[open]");
    if (event.key === "Escape" && open) { open.open = false; open.querySelector("summary").focus(); return; }
    if (event.target.closest?.("input, textarea, select")) return;
    if (!state.progress.consent) {
      if (event.key === "Enter" && !event.target.closest?.("button, summary, a")) agree();
      return;
    }
    if (!event.target.closest?.("details") && here()?.key(event)) return event.preventDefault();
    if (event.repeat) return;
    if (event.key === "Enter" && event.target.closest?.("button, summary, a")) return;
    const key = event.key === "Enter" ? "Enter" : event.key.toUpperCase();
    if (key === "C" && !comment.disabled) { comment.focus(); return event.preventDefault(); }
    if (key === "H") { drawer.open = !drawer.open; return event.preventDefault(); }
    const node = [...root.querySelectorAll("[data-key]")].find((one) => one.dataset.key === key);
    if (node && !node.disabled && !node.hidden) { node.click(); event.preventDefault(); }
  });
};

// Brings pairs: nothing is to be seen of it.
rgtg.pairFeed = (element, props, trigger, watch) => {
  rgtg.feed = { ask: (what) => trigger("more", what), branch: (what) => trigger("branch", what) };
  const draw = () => { if (props.value && props.value !== "{}") rgtg.pairs?.(JSON.parse(props.value)); };
  watch("value", draw);
  draw();
};
