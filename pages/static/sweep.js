// "Sweep this": a grid of weights on the prompt in hand. The value is NDJSON that only grows (pages/sweeping.py): a head, a line an answer,
// notes of the progress, an end. The slider moves through what is there, without the server.
rgtg.sweepPanel = (element, props, trigger, watch, start, stop) => {
  const { el, signed, plain, shown } = rgtg;
  const root = element.querySelector(".drawn"), panel = () => document.getElementById("sweep");
  let head = null, answers = [], peaks = [], read = 0, state = "", at = 0, seed = 0, stopping = false;

  // ---- the parts that stay ------------------------------------------------------------------------
  const weights = el("input", { type: "text", id: "sweep-weights", "aria-label": "Weights", title: `Weights, separated by commas, 2 to ${props.max_weights}`, autocomplete: "off", spellcheck: "false" });
  weights.value = props.weights;
  const seeds = el("input", { type: "number", id: "sweep-seeds", "aria-label": "Seeds", title: `Random seeds of every weight, 1 to ${props.max_seeds}: more narrow the intervals`, min: 1, max: props.max_seeds, step: 1 });
  seeds.value = props.seeds;
  const startButton = el("button", { type: "button", id: "sweep-start", text: "Start", title: "Generate every weight for the columns above", onclick: begin });
  const stopButton = el("button", { type: "button", id: "sweep-stop", text: "Stop", hidden: true, onclick: () => { stopping = true; trigger(stop, {}); } });
  const line = el("span", { id: "sweep-state", role: "status" });
  const bar = el("progress", { id: "sweep-progress", max: 1, value: 0, "aria-label": "Progress of the sweep", hidden: true });
  const slider = el("input", { type: "range", id: "sweep-slider", min: 0, max: 0, step: 1, value: 0, "aria-label": "Weight" });
  const shownWeight = el("output", { id: "sweep-weight", for: "sweep-slider" });
  const seedPicker = el("select", { id: "sweep-seed", "aria-label": "Random seed of the texts" });
  const texts = el("div", { id: "sweep-texts" });
  const advice = el("div", { id: "sweep-advice" });
  const exports = el("div", { class: "line", id: "sweep-exports" },
    el("button", { type: "button", id: "sweep-csv", class: "plain", text: "CSV", title: "Download every answer with its figures", onclick: csv }),
    el("button", { type: "button", id: "sweep-png", class: "plain", text: "PNG", title: "Download the curves as a picture", onclick: png }),
    el("button", { type: "button", id: "sweep-command", class: "plain", text: "Copy command", title: "Copy the command that makes these answers again", onclick: copy }));
  const result = el("div", { id: "sweep-result", hidden: true },
    el("div", { class: "line" }, el("label", { class: "field", for: "sweep-slider" }, el("span", { text: "weight" })), slider, shownWeight, el("label", { class: "field" }, el("span", { text: "seed" }), seedPicker)), texts, advice, exports);
  root.append(
    el("div", { class: "panel-head" }, el("h2", { text: "Sweep this: weights on this prompt" }), el("span", { class: "where" }), el("button", { type: "button", id: "sweep-close", class: "small", "aria-label": "Close the sweep", text: "×", onclick: close })),
    el("div", { class: "line" }, rgtg.labelled({ label: "weights" }, weights), rgtg.labelled({ label: "seeds" }, seeds), startButton, stopButton, bar, line),
    result);
  slider.addEventListener("input", () => go(Number(slider.value)));
  seedPicker.addEventListener("change", () => { seed = Number(seedPicker.value); show(); });

  // ---- running ------------------------------------------------------------------------------------
  function begin() {
    for (const input of [weights, seeds]) input.removeAttribute("aria-invalid");
    if (!seeds.checkValidity()) return void seeds.reportValidity();
    work(true);
    stopping = false;
    line.textContent = "starting …";
    trigger(start, { weights: weights.value, seeds: Number(seeds.value) });
  }
  function work(yes) {
    const focused = [startButton, stopButton].includes(document.activeElement);
    stopButton.hidden = bar.hidden = !yes;
    startButton.disabled = yes;
    if (!yes) bar.value = 0;
    if (focused) (yes ? stopButton : startButton).focus({ preventScroll: true });
  }
  rgtg.sweepRefused = () => { work(false); line.textContent = state || "not started"; };

  function draw() {
    const text = props.value || "", cut = text.indexOf("\n") + 1, first = text.slice(0, cut);
    if (!cut) return;
    if (!head || !first.includes(head.id) || text.length < read) {
      const next = JSON.parse(first);
      if (stopping) trigger(stop, {}); // it was pressed before there was anything to stop
      if (next.waiting) return void (line.textContent = next.waiting);
      begun(next);
      read = cut;
    }
    for (let end; (end = text.indexOf("\n", read)) >= 0; read = end + 1) take(JSON.parse(text.slice(read, end)));
    show();
  }
  function begun(next) {
    head = next;
    answers = next.lines.map(() => next.weights.map(() => []));
    peaks = [];
    [at, seed, state] = [0, 0, ""];
    slider.max = next.weights.length - 1;
    slider.value = 0;
    seedPicker.replaceChildren(...next.seeds.map((number, i) => el("option", { value: i, text: number })));
    result.hidden = false;
    element.querySelector(".where").textContent = `“${next.prompt.length > 60 ? next.prompt.slice(0, 60) + "…" : next.prompt}”`;
    work(true);
  }
  function take(fields) {
    if (fields.t) answers[fields.l][fields.w][fields.s] = fields;
    else if (fields.done !== undefined) {
      bar.max = head.total;
      bar.value = fields.done;
      line.textContent = `${Math.floor(fields.done)} of ${head.total} answers`;
    } else if (fields.end) {
      peaks = fields.peaks;
      const all = answers.flat(2).filter((answer) => answer && !["stopped", "error"].includes(answer.stop)).length;
      const failed = answers.flat(2).find((answer) => answer?.stop === "error");
      state = { done: `done, ${all} answers`, stopped: `stopped, ${all} of ${head.total} answers`, error: fields.message }[fields.end] + (failed ? `; failed: ${failed.error}` : "");
      line.textContent = state;
      work(false);
      const best = peaks.find((peak) => peak?.clear) ?? peaks.find(Boolean);
      if (best) go(head.weights.indexOf(best.weight));
    }
  }

  // ---- what the slider is at ----------------------------------------------------------------------
  function go(index) {
    at = Math.max(0, Math.min(head.weights.length - 1, index));
    slider.value = at;
    show();
    mark();
  }
  function show() {
    if (!head) return;
    const weight = head.weights[at];
    shownWeight.textContent = weight;
    slider.setAttribute("aria-valuetext", `weight ${weight}`);
    const scale = new Map(); // a scale for each measure, over all weights, so that a colour means the same along the slider
    const measure = (number) => (head.judge ? 1 : 2);
    for (const [number, weightsOf] of answers.entries()) for (const answer of weightsOf.flat()) for (const token of answer?.t ?? []) {
      const key = head.judge ?? head.lines[number].guide;
      scale.set(key, Math.max(scale.get(key) ?? 1e-9, Math.abs(token[measure(number)] ?? 0)));
    }
    texts.replaceChildren(...head.lines.map((one, number) => text(one, answers[number][at][seed], scale.get(head.judge ?? one.guide), measure(number), weight)));
    advice.replaceChildren(...(peaks.length ? head.lines.map((one, number) => recommended(one, peaks[number])) : []));
  }
  function text(one, answer, half, measure, weight) {
    const name = `${one.letters.join(" ")} ${one.title}`;
    const tokens = (answer?.t ?? []).map((token) => {
      const value = token[measure], node = el("span", { class: "tok " + (value > 0 ? "pos" : value < 0 ? "neg" : value === null ? "unscored" : ""), text: token[0], "data-x": token[4] });
      node.style.setProperty("--m", Math.abs(value ?? 0).toFixed(4));
      const lines = [`“${shown(token[0]) || token[4]}”`, head.judge && token[1] !== null ? `${head.judge} ${signed(token[1])}` : "", token[2] !== null ? `${one.guide} ${signed(token[2])}` : "", `log p ${signed(token[3])}`];
      node.addEventListener("mouseenter", () => rgtg.tip.show(node, lines.filter(Boolean)));
      node.addEventListener("mouseleave", rgtg.tip.hide);
      return node;
    });
    const facts = answer ? [`${answer.t.length} tok`, answer.judge === null ? "" : `judge ${signed(answer.judge)}`, answer.guide === null ? "" : `${one.guide} ${signed(answer.guide)}`, answer.kl === null ? "" : `KL ${plain(answer.kl, 1)}`, answer.stop === "error" ? answer.error : answer.stop === "stopped" ? "stopped" : ""] : ["not written yet"];
    const box = el("div", { class: "sweep-text", role: "group", "aria-label": `Answer of ${name} at weight ${weight}`, dir: "auto" }, el("span", { class: "prompt", text: head.prompt.length > 160 ? "…" + head.prompt.slice(-150) : head.prompt }), ...tokens);
    box.style.setProperty("--half-range", half ?? 1);
    return el("div", { class: "sweep-line" },
      el("div", { class: "sweep-head" }, el("span", { class: "letter", "data-column": one.letters[0], text: one.letters.join(" ") }), el("span", { class: "name", text: `${one.title} · ${one.guide}`, title: one.name }), use(one, weight)),
      box, el("div", { class: "facts", text: facts.filter(Boolean).join(" · ") }));
  }
  function use(one, weight) {
    const column = one.letters[0];
    return el("button", { type: "button", class: "use-weight", "data-column": column, title: `Set ${one.symbol} = ${weight} in column ${column}`, text: `Use ${one.symbol} = ${weight} in ${column}`, onclick: () => takeOver(one, weight) });
  }
  function takeOver(one, weight) {
    const changed = one.letters.filter((column) => rgtg.others.setters[column]?.value().method === one.method && rgtg.others.setters[column].take(one.parameter, weight));
    line.textContent = changed.length ? `${one.symbol} = ${weight} in column ${changed.join(" ")}` : `column ${one.letters.join(" ")} has another method now`;
  }
  function recommended(one, peak) {
    const words = peak ? peak.words : head.judge ? "No weight has all its answers." : "Without a judge no weight is recommended: install a reward model that never guides.";
    const away = peak && peak.weight !== head.weights[at] ? el("button", { type: "button", class: "plain", text: `Show ${one.symbol} = ${peak.weight}`, onclick: () => go(head.weights.indexOf(peak.weight)) }) : null;
    return el("p", { class: peak?.clear ? "clear" : "quiet" }, el("span", { class: "letter", "data-column": one.letters[0], text: one.letters.join(" ") }), " " + words + " ", away);
  }

  // ---- the curves ---------------------------------------------------------------------------------
  const plot = () => document.querySelector("#sweep-curves .js-plotly-plot");
  function attach() {
    const node = plot();
    if (!node?.on) return;
    if (!node.rgtg) {
      node.rgtg = true;
      node.on("plotly_click", (event) => {
        const point = event.points?.[0]?.customdata;
        if (!point || !head) return;
        go(Number(point[1]));
        texts.children[point[0]]?.scrollIntoView({ block: "nearest" });
      });
    }
    mark();
  }
  function mark() {
    const node = plot();
    if (!node?.layout || !window.Plotly || !head) return;
    const line = { type: "line", xref: "x", yref: "paper", x0: at, x1: at, y0: 0, y1: 1, line: { color: "#888", width: 1, dash: "dot" } };
    if (node.layout.shapes?.[0]?.x0 !== at) window.Plotly.relayout(node, { shapes: [line] });
  }

  // ---- to take along ------------------------------------------------------------------------------
  function download(name, address) {
    const link = el("a", { href: address, download: name });
    document.body.append(link);
    link.click();
    link.remove();
  }
  function csv() {
    const cell = (value) => { const text = String(value ?? ""), safe = typeof value === "string" && /^[=+\-@\t\r]/.test(text) ? "'" + text : text; return /[",\n\r]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe; };
    const rows = [["columns", "setting", "weight", "seed", "judge", "guide", "kl", "tokens", "stop_reason", "prompt", "text"]];
    for (const [l, one] of head.lines.entries()) for (const [w, weight] of head.weights.entries()) for (const answer of answers[l][w]) {
      if (answer) rows.push([one.letters.join(" "), one.name, weight, head.seeds[answer.s], answer.judge, answer.guide, answer.kl, answer.t.length, answer.stop, head.prompt, answer.t.map((token) => token[0]).join("")]);
    }
    const address = URL.createObjectURL(new Blob([rows.map((row) => row.map(cell).join(",") + "\n").join("")], { type: "text/csv" }));
    download("weights.csv", address);
    setTimeout(() => URL.revokeObjectURL(address), 10000);
  }
  async function png() {
    const node = plot();
    if (!node || !window.Plotly) return;
    const paper = getComputedStyle(document.body).getPropertyValue("--paper").trim() || "#ffffff";
    const address = await window.Plotly.toImage({ data: node.data, layout: { ...node.layout, paper_bgcolor: paper } }, { format: "png", width: 900, height: node.layout.height ?? 420, scale: 2 });
    download("weights.png", address);
  }
  async function copy() {
    try {
      await navigator.clipboard.writeText(head.command);
      line.textContent = "command copied";
    } catch {
      window.prompt("The command that makes these answers again", head.command);
    }
  }

  // ---- open and close -----------------------------------------------------------------------------
  function open() {
    const node = panel();
    node.classList.add("open");
    document.getElementById("sweep-this")?.setAttribute("aria-expanded", "true");
    if (plot()) window.Plotly?.Plots.resize(plot());
    node.scrollIntoView({ block: "nearest" });
    (head ? slider : weights).focus({ preventScroll: true });
  }
  function close() {
    panel().classList.remove("open");
    document.getElementById("sweep-this")?.setAttribute("aria-expanded", "false");
    document.getElementById("sweep-this")?.focus();
  }
  rgtg.hear(element, "sweep", () => (panel().classList.contains("open") ? close() : open()));
  const find = () => {
    const home = document.getElementById("sweep-curves");
    if (!home) return void setTimeout(find, 200);
    new MutationObserver(attach).observe(home, { childList: true, subtree: true });
    attach();
  };
  find();
  watch("value", draw);
  draw();
};
