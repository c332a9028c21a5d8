// A new annotation task, and those there are. The value has what the form offers, or {made} once a task was made, whose page is then opened
// anew, so that nothing which the form offered is left on it.
rgtg.taskForm = (element, props, trigger, watch, upload, start) => {
  const { el } = rgtg;
  const root = element.querySelector(".drawn");
  let drawn = false, file = null;
  const NUMBERS = [
    { name: "num_pairs", label: "pairs a rater", value: 50, min: 1, max: 10000, step: 1 },
    { name: "num_answers", label: "answers at once", value: 2, min: 2, max: 4, step: 1 },
    { name: "max_new_tokens", label: "max new tokens", min: 1, max: 1000, step: 1 },
    { name: "temperature", label: "temperature", min: 0, max: 5, step: 0.1 },
    { name: "overlap", label: "seen by several raters", value: 0.2, min: 0, max: 1, step: 0.05, help: "Share of the pairs that several raters see, for their agreement" },
    { name: "gold_share", label: "gold pairs", value: 0.1, min: 0, max: 1, step: 0.05, help: "Share of the pairs whose better answer is known, as far as there are such pairs" },
    { name: "repeats", label: "seen again", value: 0.1, min: 0, max: 1, step: 0.05, help: "Share of the pairs that a rater sees again with the sides swapped, for his self-consistency" },
  ];
  const RULES = { uniform: "uniform", "under-sampled": "under-sampled first", informative: "most informative", thompson: "Thompson sampling", disagreement: "where reward models disagree" };
  function draw() {
    const offer = JSON.parse(props.value || "{}");
    if (offer.made) return void location.assign(`annotate?task=${encodeURIComponent(offer.made)}`);
    if (offer.shut) return void root.replaceChildren(el("p", { class: "quiet", text: "Open the link of an annotation task that you were given." }));
    if (drawn || !offer.rules) return;
    drawn = true;
    const inputs = {};
    const labelled = (label, input, help) => el("label", { class: "field", title: help ?? null }, el("span", { text: label }), input);
    const title = el("input", { id: "task-title", type: "text", maxlength: 80, "aria-label": "Title", dir: "auto" }), prompts = el("textarea", { id: "task-prompts", rows: "6", "aria-label": "Prompts, one a line", placeholder: "prompts, one a line", dir: "auto" });
    title.value = "Which is better?";
    const fileNote = el("span", { class: "quiet" }), picker = el("input", { type: "file", hidden: true, id: "task-file", "aria-label": "File of prompts", accept: ".txt,.jsonl,.ndjson,.json,.csv,.tsv,.parquet,.arrow,.feather,.gz,.zst" });
    const path = el("input", { id: "task-path", type: "text", "aria-label": "File of prompts on this machine, or owner/name of a dataset on the Hugging Face Hub", placeholder: "or a file, or owner/name on the Hub", dir: "auto" });
    picker.addEventListener("change", async () => {
      if (!picker.files[0]) return;
      fileNote.textContent = `uploading ${picker.files[0].name} …`;
      try {
        ({ path: file } = await upload(picker.files[0]));
        path.value = "";
        fileNote.textContent = `prompts of ${picker.files[0].name}`;
      } catch { fileNote.textContent = "It could not be uploaded: it may be too large. Enter its path instead."; }
    });
    path.addEventListener("input", () => { file = null; fileNote.textContent = ""; });
    const gold = el("input", { id: "task-gold", type: "text", "aria-label": "File of gold pairs on this machine, or owner/name of a dataset on the Hugging Face Hub", placeholder: "gold pairs: a file with prompt, chosen, rejected", title: "Pairs whose better answer is known, mixed in to see which raters read", dir: "auto" });
    const examples = el("button", { type: "button", id: "task-openings", text: "Use the examples", title: "The example prompts that ship with rgtg", onclick: () => { prompts.value = offer.openings.join("\n"); file = null; path.value = ""; fileNote.textContent = ""; } });
    const lineUp = rgtg.field({ label: "Line-up", choices: offer.line_ups.map(([key, name, about]) => [key, name, "", about]) }, "", "task-line_up", () => {});
    const baseLm = rgtg.field({ label: "Base LM", choices: [["", "default"], ...offer.base_lms] }, "", "task-base_lm", () => {});
    const rule = rgtg.field({ label: "Which pair next", choices: offer.rules.map((key) => [key, RULES[key] ?? key]) }, "uniform", "task-rule", () => {});
    const reveal = el("input", { id: "task-reveal", type: "checkbox", "aria-label": "Show after a vote what made the answers" });
    const ranking = el("input", { id: "task-ranking", type: "checkbox", "aria-label": "Rank three or four answers" });
    const guidelines = el("textarea", { id: "task-guidelines", rows: "4", "aria-label": "Guidelines", placeholder: "guidelines: what raters are asked to look at", dir: "auto" });
    guidelines.value = offer.guidelines;
    for (const spec of NUMBERS) inputs[spec.name] = el("input", { id: "task-" + spec.name, type: "number", min: spec.min, max: spec.max, step: spec.step, value: spec.value ?? offer[spec.name], "aria-label": spec.label });
    const begin = () => trigger(start, {
      title: title.value, prompts: prompts.value, file: file ?? path.value.trim(), gold: gold.value.trim(), line_up: lineUp.value, base_lm: baseLm.value, rule: rule.value, reveal: reveal.checked, ranking: ranking.checked, guidelines: guidelines.value,
      ...Object.fromEntries(Object.entries(inputs).map(([name, input]) => [name, input.value === "" ? null : Number(input.value)])),
    });
    root.replaceChildren(
      el("h2", { text: "New annotation task" }),
      el("div", { class: "task-grid" },
        el("div", { class: "task-part" }, labelled("title", title), prompts, el("div", { class: "task-line" }, examples, el("button", { type: "button", id: "task-upload", text: "Upload …", title: "A prompt a line, or rows with a prompt: JSON, CSV, Parquet", onclick: () => picker.click() }), picker, path, fileNote), gold),
        el("div", { class: "task-part" }, el("div", { class: "task-line" }, labelled("line-up", lineUp), labelled("base LM", baseLm), labelled("which pair next", rule)),
          el("div", { class: "task-line" }, ...NUMBERS.map((spec) => labelled(spec.label, inputs[spec.name], spec.help))),
          el("label", { class: "field check", title: "With three or four answers at once: the best ones in order, the others stay unranked" }, el("span", { text: "rank the answers, not only the best one" }), ranking),
          el("label", { class: "field check" }, el("span", { text: "show after a vote what made the answers" }), reveal), guidelines,
          el("div", { class: "task-line" }, el("button", { type: "button", id: "task-start", class: "go", text: "Start annotating", onclick: begin })))),
      el("h2", { text: "Tasks" }),
      offer.tasks.length ? el("ul", { id: "task-list" }, ...offer.tasks.map((one) => el("li", {}, el("a", { href: `annotate?task=${encodeURIComponent(one.id)}`, text: one.title }), el("span", { class: "quiet", text: " " + one.about })))) : el("p", { class: "quiet", text: "There are none yet. A task's page has its own address: give it to whoever is to vote." }));
    document.title = "rgtg · Annotate";
  }
  watch("value", draw);
  draw();
};
