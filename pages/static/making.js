// The Models page: a reward from a few fields. The value has the kinds with their fields, or says what came of a trial or of making it.
rgtg.rewardForm = (element, props, trigger, watch, makeReward, tryReward) => {
  const { el } = rgtg;
  const root = element.querySelector(".drawn");
  const id = (name) => "made-" + name;
  let kinds = [], kind = null, inputs = {};
  const name = el("input", { type: "text", id: id("name"), "aria-label": "Name of the new reward", placeholder: "name", autocomplete: "off", spellcheck: "false", maxlength: 60 });
  const fields = el("div", { class: "made-fields" });
  const prompt = el("input", { type: "text", id: id("try-prompt"), "aria-label": "Prompt of the trial", placeholder: "prompt", autocomplete: "off" });
  const response = el("input", { type: "text", id: id("try-response"), "aria-label": "Response to score", placeholder: "a response to score", autocomplete: "off" });
  const result = el("div", { class: "made-tried", id: id("tried"), role: "status" });
  const note = el("span", { class: "quiet", role: "status", id: id("note") });
  const tryIt = el("button", { type: "button", id: "try-reward", text: "Try", title: "Score this text with the reward as it stands; nothing is kept", onclick: () => send(tryReward, { prompt: prompt.value, response: response.value }) });
  const make = el("button", { type: "button", id: "make-reward", text: "Make", title: "Keep the reward among the reward models", onclick: () => send(makeReward, {}) });
  for (const input of [prompt, response]) input.addEventListener("keydown", (event) => event.key === "Enter" && tryIt.click());
  name.addEventListener("keydown", (event) => event.key === "Enter" && make.click());

  function send(event, more) {
    for (const button of [tryIt, make]) button.disabled = true;
    note.textContent = event === tryReward ? "scoring …" : "making …";
    const values = Object.fromEntries(Object.entries(inputs).map(([key, read]) => [key, read()]));
    trigger(event, { reward: { name: name.value, kind: kind.key, ...values }, ...more });
  }
  function rest(text = "") {
    for (const button of [tryIt, make]) button.disabled = false;
    note.textContent = text;
  }

  // an input, and how its value is read
  function field(spec) {
    const label = spec.name.replaceAll("_", " "), shared = { id: id(spec.name), "aria-describedby": id(spec.name + "-help") };
    let input, read;
    if (["area", "lines", "weights"].includes(spec.type)) {
      input = el("textarea", { ...shared, rows: spec.type === "area" ? 3 : 2, spellcheck: "false" });
      input.value = spec.default;
      read = () => input.value;
    } else if (spec.type === "text") {
      input = el("input", { ...shared, type: "text", autocomplete: "off", spellcheck: "false" });
      input.value = spec.default;
      read = () => input.value;
    } else {
      let value = spec.default;
      input = rgtg.field({ label, help: spec.help, min: spec.min, max: spec.max, step: spec.whole ? 1 : "any", choices: spec.choices, kind: spec.type === "check" ? "check" : null }, value, id(spec.name), (now) => (value = now));
      input.removeAttribute("aria-label"); // its label has the name
      read = () => value;
    }
    inputs[spec.name] = read;
    return el("div", { class: "made-field" }, el("label", { class: "field" }, el("span", { text: label }), input), el("p", { class: "help", id: id(spec.name + "-help"), text: spec.help }));
  }
  function choose(key) {
    kind = kinds.find((k) => k.key === key) ?? kinds[0];
    inputs = {};
    rgtg.put(fields, el("p", { class: "help", text: `${kind.about} ${kind.pitfall[0].toUpperCase()}${kind.pitfall.slice(1)}` }), ...kind.fields.map(field));
    result.replaceChildren();
  }
  function build() {
    const picker = rgtg.field({ label: "Kind of reward", choices: kinds.map((k) => [k.key, k.title, null, k.about]) }, kind?.key ?? kinds[0].key, id("kind"), choose);
    picker.removeAttribute("aria-label");
    const open = root.querySelector("details")?.open;
    rgtg.put(root, el("details", { open }, el("summary", { text: "New reward from a rule, a follow-up or a question" }),
      el("div", { class: "made-line" }, rgtg.labelled({ label: "kind" }, picker), name, make, note), fields,
      el("div", { class: "made-line" }, el("span", { class: "label", text: "Try it" }), prompt, response, tryIt), result));
    choose(picker.value);
  }
  const digits = (reward) => rgtg.signed(reward, reward && Math.abs(reward) < 0.1 ? 4 : 2); // a probability may be small
  // every token with the reward of the text up to it
  function tried(pairs) {
    const parts = pairs.map(([text, reward]) => el("span", { class: "made-token" }, el("span", { text: rgtg.shown(text) || "…" }), el("small", { text: digits(reward) })));
    result.replaceChildren(el("p", {}, `Reward of the text: ${digits(pairs.at(-1)?.[1])}. After each token:`), el("div", { class: "made-tokens" }, ...parts));
  }
  rgtg.hear(element, "error", () => rest());
  function draw() {
    const answer = JSON.parse(props.value || "{}");
    rest(answer.note || "");
    if (answer.kinds) { kinds = answer.kinds; build(); }
    if (answer.tried) tried(answer.tried);
    if (answer.done) name.value = "";
  }
  watch("value", draw);
  draw();
};
