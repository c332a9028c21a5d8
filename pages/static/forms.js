// Small forms drawn from what Python describes: the settings of a run, of a column, the colour, the examples.
// Their value is JSON; the server checks every field again.
rgtg.field = (spec, value, id, changed) => {
  const { el } = rgtg;
  const name = { id, "aria-label": spec.label, title: spec.help || null };
  const infinite = value === "-inf" ? value : null; // as Python writes what JSON has no number for
  let input;
  if (spec.choices) {
    // a choice is a value, or [value, title], or [value, title, group, help]; the choices of a group stand together
    input = el("select", name);
    for (const choice of spec.choices) {
      const [key, title, group, help] = Array.isArray(choice) ? choice : [choice, String(choice)];
      if (group && input.lastChild?.label !== group) input.append(el("optgroup", { label: group }));
      (group ? input.lastChild : input).append(el("option", { value: key, text: title, title: help }));
    }
    if (value !== undefined && value !== null) input.value = String(value);
  } else if (spec.kind === "text") {
    input = el("input", { ...name, type: "text", maxlength: 2000, dir: "auto" });
    input.value = value ?? "";
  } else if (spec.kind === "check") {
    input = el("input", { ...name, type: "checkbox" });
    input.checked = !!value;
  } else {
    input = el("input", { ...name, type: "number", min: spec.min, max: spec.max, step: spec.step ?? "any", inputmode: "decimal" });
    input.value = infinite ? "" : (value ?? "");
    if (infinite) input.placeholder = "−∞";
  }
  const read = () => (spec.kind === "text" ? input.value : spec.kind === "check" ? input.checked : spec.choices ? (spec.whole ? Number(input.value) : input.value) : input.value === "" ? infinite : Number(input.value));
  input.addEventListener(spec.choices || spec.kind === "check" ? "change" : "input", () => {
    if (input.type === "number") input.toggleAttribute("aria-invalid", !input.checkValidity());
    changed(read());
  });
  return input;
};
// What a page that was left had in it comes with the server's first answer, marked so; `merged` says what of it stands beside what was
// changed by then.
rgtg.received = (props, merged) => {
  const { restored, ...sent } = JSON.parse(props.value || "{}");
  if (!restored) return sent;
  rgtg.tell("restored");
  const kept = merged(sent);
  props.value = JSON.stringify(kept);
  return kept;
};
rgtg.labelled = (spec, input) => rgtg.el("label", { class: "field " + (spec.kind === "check" ? "check" : ""), title: spec.help || null }, rgtg.el("span", { text: spec.label }), input, spec.unit && rgtg.el("span", { class: "unit", text: spec.unit }));

// The settings that all columns share.
rgtg.settings = (element, props, watch) => {
  const { el } = rgtg;
  const root = element.querySelector(".drawn");
  let value = {}, inputs = {}, drawn = "", started = false;
  const changed = {}; // since the page opened
  const put = (changes) => {
    Object.assign(changed, changes);
    value = { ...value, ...changes };
    props.value = JSON.stringify(value);
    rgtg.tell("settings", value);
  };
  const newSeed = () => { const seed = Math.floor(Math.random() * 1e6); inputs.seed.value = seed; put({ seed }); };
  function build() {
    if (drawn === (drawn = JSON.stringify(props.fields))) return; // an input that has the focus keeps it
    inputs = {};
    root.replaceChildren(...props.fields.map((spec) => {
      if (spec.kind === "button") return el("button", { id: "settings-new-seed", type: "button", class: "small", title: spec.help, text: spec.label, onclick: newSeed });
      inputs[spec.name] = rgtg.field(spec, value[spec.name], "settings-" + spec.name, (now) => {
        put(spec.name === "seed" ? { seed: now, lock: true } : { [spec.name]: now });
        if (spec.name === "seed") inputs.lock.checked = true; // who types a seed means to keep it
        if (spec.name === "base_lm") rgtg.tell("base_lm");
      });
      return rgtg.labelled(spec, inputs[spec.name]);
    }));
  }
  function fill() {
    const next = rgtg.received(props, (sent) => ({ ...sent, ...changed })), before = value;
    if (JSON.stringify(next) === JSON.stringify(value)) return;
    value = next;
    if (started) Object.assign(changed, next);
    started = true;
    for (const [name, input] of Object.entries(inputs)) {
      if (JSON.stringify(value[name]) === JSON.stringify(before[name])) continue; // it may be half typed
      if (input.type === "checkbox") input.checked = !!value[name];
      else input.value = value[name] ?? "";
      input.removeAttribute("aria-invalid");
    }
    rgtg.tell("settings", value);
  }
  rgtg.currentSettings = () => value;
  rgtg.putSettings = (changes) => {
    put(changes);
    for (const name of Object.keys(changes)) if (inputs[name]) inputs[name].value = changes[name];
  };
  watch("value", fill);
  watch("fields", build);
  build();
  fill();
};

// One column's head: its letter, its method, its reward model, its weight; the rest opens over the text.
rgtg.columnSettings = (element, props, watch) => {
  const { el } = rgtg;
  const root = element.querySelector(".drawn");
  const id = (name) => `settings-${props.column}-${name}`;
  const NARROW = 400; // px of a column, below which its head takes two lines (Gradio keeps no container query)
  let value = null, changed = false, drawn = "", drawnFor = null; // since the page opened; its lists; the base LM
  const method = () => props.methods.find((m) => m.key === value.method) ?? props.methods[0];
  const put = (changes) => {
    changed = true;
    value = { ...value, ...changes };
    props.value = JSON.stringify(value);
    show();
  };
  const lm = () => rgtg.currentSettings?.().base_lm ?? null;
  const installed = () => props.models.filter((m) => m.fits.includes(lm()));
  const isOwn = (model) => model.trained_for.includes(lm()); // the others read its text with their own tokens
  const fitting = () => installed().filter((m) => !m.only_role).sort((a, b) => isOwn(b) - isOwn(a));
  const fit = (method) => {
    if (!method.uses_reward || method.roles.length) return null;
    const own = fitting().filter(isOwn), models = own.length ? own : fitting(), best = method.objectives.map((wanted) => models.find((m) => m.objective === wanted)).find(Boolean);
    return (best ?? models[0])?.name ?? null; // as Method.default_guide
  };
  const hasRoles = () => method().roles.length > 0;
  const mix = () => (hasRoles() ? null : rgtg.mix(value));
  // the reward model that a person picked, if the next method can read it; what a method took by default goes with it
  const kept = (next) => {
    const model = fitting().find((m) => m.name === value.reward_model);
    return next.uses_reward && model && model.name !== fit(method()) && (!next.roles.length || next.objectives.includes(model.objective)) ? model.name : null;
  };
  // the models that the column names and cannot have; null stands for one that it leaves open
  const unfit = () => {
    if (!method().uses_reward) return [];
    if (hasRoles()) return rgtg.roles.unfit(value, method(), installed(), lm());
    return (mix() ?? [[value.reward_model]]).map(([name]) => name).filter((name) => !fitting().some((m) => m.name === name));
  };
  const misfit = () => unfit().length > 0;
  // the models of a method that nobody chose: in its roles those that stand in, the first one being `name` if there is one
  const modelsOf = (next, name) => (next.roles.length ? { reward_model: null, guides: rgtg.roles.none(next).map(([one, w], i) => [i === 0 && name ? name : one, w]), combine: undefined } : { reward_model: name ?? fit(next), ...rgtg.NO_MIX });
  const putParam = (name, now) => put({ params: { ...value.params, [name]: now } });
  function change(key) {
    const next = props.methods.find((m) => m.key === key);
    const params = Object.fromEntries(next.parameters.map((p) => [p.name, value.params?.[p.name] !== undefined && p.min !== null ? value.params[p.name] : p.default]));
    put({ method: key, params, ...(mix() && next.uses_reward && !next.roles.length ? {} : modelsOf(next, kept(next))) });
    draw(true);
    document.getElementById(id("method"))?.focus();
  }
  const spec = (p) => ({ label: p.label, help: p.help, min: p.min, max: p.max, kind: p.text ? "text" : null, step: p.whole ? 1 : "any", choices: p.choices.length ? p.choices : null, unit: p.unit });

  function modelPicker(wrong) {
    const models = fitting().map((m) => [m.name, m.label]), now = value.reward_model ?? "no reward model";
    if (wrong.length) models.unshift([now, now]);
    const choose = (name) => { put({ reward_model: name }); draw(true); document.getElementById(id("reward_model"))?.focus(); };
    const picker = rgtg.field({ label: `Reward model of column ${props.column}`, choices: models, help: props.models.find((m) => m.name === value.reward_model)?.about }, now, id("reward_model"), choose);
    picker.toggleAttribute("aria-invalid", wrong.length > 0);
    return picker;
  }
  function draw(force) {
    const next = rgtg.received(props, (sent) => (changed ? value : sent)), isOther = value && JSON.stringify(next) !== JSON.stringify(value);
    if (!force && value && !isOther) return;
    changed ||= isOther;
    value = next;
    drawnFor = lm();
    root.replaceChildren(el("span", { class: "letter", "data-column": props.column, text: props.column }));
    if (props.branch) return void root.append(el("span", { class: "branch-label", title: props.branch, text: props.branch }));
    const chosen = method(), methods = props.methods.map((m) => [m.key, m.title, m.group, m.about]);
    const methodPicker = rgtg.field({ label: `Method of column ${props.column}`, choices: methods }, value.method, id("method"), change);
    methodPicker.setAttribute("aria-description", chosen.about);
    rgtg.tip.of(methodPicker, [chosen.title, chosen.about]);
    root.append(methodPicker);
    const rows = chosen.uses_reward && !hasRoles() && fitting().length && rgtg.mixRows({ column: props.column, value, models: fitting(), combinations: props.combinations, put, redraw });
    if (chosen.uses_reward) {
      const wrong = unfit();
      const picker = hasRoles()
        ? rgtg.roles.pickers({ value, method: chosen, models: installed(), lm: lm(), id, column: props.column, put: (guides) => { put({ guides, reward_model: null }); draw(true); } })
        : rows && mix() ? rows.summary : modelPicker(wrong);
      root.append(picker);
      if (wrong.length) {
        const what = chosen.roles.length ? "model" : "reward model", [gone] = wrong;
        const name = !gone ? `No ${what} for ${lm()} is installed` : props.models.some((m) => m.name === gone) ? `“${gone}” was not trained for ${lm()}` : `“${gone}” is not installed`;
        const next = fitting().length ? `choose another ${what}` : "train a reward model on the Train page, or choose Base LM";
        root.append(el("p", { class: "misfit", id: id("misfit"), role: "alert", text: `${name}: ${next}.` }));
        for (const input of picker.matches("select") ? [picker] : picker.querySelectorAll("[aria-invalid]")) input.setAttribute("aria-describedby", id("misfit"));
      }
    }
    const [first, ...rest] = chosen.parameters;
    if (first) root.append(rgtg.labelled(spec(first), rgtg.field(spec(first), value.params?.[first.name] ?? first.default, id(first.name), (now) => putParam(first.name, now))));
    const model = props.models.find((m) => m.name === value.reward_model);
    const more = el("details", { class: "more" }, el("summary", { title: "More about this method", "aria-label": `More settings of column ${props.column}`, text: "⋯" }));
    const inside = el("div", { class: "popover" }, el("p", {}, chosen.about + " ", el("a", { class: "link", href: `./help#methods-${chosen.key}`, text: "Formula, paper and cost" })));
    for (const p of rest) inside.append(rgtg.labelled(spec(p), rgtg.field(spec(p), value.params?.[p.name] ?? p.default, id(p.name), (now) => putParam(p.name, now))), el("p", { class: "help", text: p.help }));
    if (first) inside.append(el("p", { class: "help", text: `${first.help.startsWith(first.label) ? "" : first.label + ": "}${first.help} (${first.choices.length ? first.choices.join(", ") : `${first.min ?? ""}…${first.max ?? ""}`})` }));
    if (rows) inside.prepend(rows.rows); // what is edited most
    if (chosen.uses_reward && model?.about) inside.append(el("p", { class: "help", text: `${model.name}: ${model.about}` }));
    inside.prepend(rgtg.others.buttons({ column: props.column, id, parameters: chosen.parameters.filter((p) => p.min !== null || p.choices.length), read: (p) => value.params?.[p.name] ?? p.default }));
    more.append(inside);
    root.append(more);
  }
  const redraw = (focus) => setTimeout(() => { // after the click, which would close what it no longer finds
    draw(true);
    root.querySelector(".more").open = true;
    document.getElementById(focus)?.focus();
  });
  function show() {
    const home = element.closest(".rgtg-column"), head = rgtg.views[props.column]?.head;
    if (!home) return;
    const wanted = props.methods.length > 0 && props.place < (rgtg.currentSettings?.().columns ?? 0);
    home.classList.toggle("absent", !wanted && !head);
    home.classList.toggle("leaving", !wanted && !!head && !props.branch);
    home.classList.toggle("narrow", home.clientWidth < NARROW);
    home.classList.toggle("changed", !!head?.params && !props.branch && !same(head));
  }
  const sameModels = (head) => !method().uses_reward || (hasRoles() ? JSON.stringify(head.guides ?? []) === JSON.stringify(rgtg.roles.named(value, method(), installed(), lm())) : rgtg.sameMix(head, value));
  // whether the text below was made with what the head shows now
  const same = (head) =>
    head.method === value.method && sameModels(head) &&
    Object.entries(value.params ?? {}).every(([name, now]) => head.params[name] === undefined || head.params[name] === now);
  (rgtg.currentColumns ??= {})[props.column] = () => value;
  if (props.methods.length) {
    const set = (now) => { put(now); draw(true); };
    const take = (name, now) => { // false where the column has no such parameter, or holds a branch
      if (props.branch) return false;
      const own = method().parameters.find((p) => p.name === name), fits = own && (own.choices.length ? own.choices.includes(now) : now === "-inf" ? own.default === now : now >= own.min && now <= own.max && (!own.whole || Number.isInteger(now)));
      if (fits) set({ params: { ...value.params, [name]: now } });
      return !!fits;
    };
    rgtg.others.setters[props.column] = { value: () => structuredClone(value), set, take };
  }
  rgtg.hear(element, "settings", () => { if (lm() !== drawnFor) draw(true); show(); });
  rgtg.hear(element, "base_lm", () => { // another was chosen by hand: so is what can guide it
    if (!props.methods.length) return;
    const model = !hasRoles() && !mix() && props.models.find((m) => m.name === value.reward_model);
    if (!misfit() && !(model && !isOwn(model) && fitting().some(isOwn))) return;
    put(modelsOf(method()));
    draw(true);
  });
  rgtg.hear(element, "column", show);
  watch("value", () => { draw(); show(); });
  const lists = () => JSON.stringify([props.methods, props.models, props.branch]);
  watch(["methods", "models", "branch"], () => { if (drawn !== (drawn = lists())) draw(true); show(); });
  drawn = lists();
  draw(true);
  setTimeout(() => { show(); const home = element.closest(".rgtg-column"); if (home) new ResizeObserver(show).observe(home); });
  document.addEventListener("click", (event) => { for (const open of root.querySelectorAll("details[open]")) if (!open.contains(event.target)) open.open = false; });
};

// Which value colours the tokens, by which reward model, and the scale.
rgtg.colourBar = (element, props, trigger, watch) => {
  const { el } = rgtg;
  const root = element.querySelector(".drawn");
  const legend = el("span", { class: "legend" });
  const measure = el("select", { id: "colour-measure", "aria-label": "Reward model that colours the tokens and draws the curve", title: "Reward model whose rewards are shown. “own guide”: each column's own reward model, each on its own scale" });
  const channel = rgtg.field({ label: "Colour by", choices: props.channels }, "reward", "colour-channel", (channelName) => { rgtg.colour.channel = channelName; rgtg.paintAll(); });
  measure.addEventListener("change", () => {
    rgtg.colour.measure = measure.value;
    rgtg.paintAll();
    props.value = measure.value;
    trigger("measure", { measure: measure.value });
  });
  function names() {
    const scored = new Set();
    for (const view of Object.values(rgtg.views)) for (const name of Object.keys(view.steps[0]?.rs ?? {})) scored.add(name);
    if (rgtg.colour.measure && rgtg.colour.measure !== rgtg.OWN && scored.size && !scored.has(rgtg.colour.measure)) rgtg.colour.measure = props.value = "";
    const choices = [...[...scored].sort(), rgtg.OWN].map((name) => [name, props.labels?.[name] ?? name]), current = [...measure.options].map((o) => [o.value, o.textContent]);
    if (JSON.stringify(choices) !== JSON.stringify(current)) measure.replaceChildren(...choices.map(([name, text]) => el("option", { value: name, text })));
    measure.value = rgtg.measure();
  }
  function ends(half, kind) {
    const digits = half < 1 ? 2 : 1;
    return [kind.from0 ? "0" : rgtg.plain(-half, digits), (kind.from0 ? rgtg.plain(half, digits) : rgtg.signed(half, digits)) + (kind.unit && " " + kind.unit)];
  }
  function scale() {
    names();
    const kind = rgtg.CHANNELS[rgtg.colour.channel], scales = rgtg.scales();
    legend.replaceChildren();
    if (rgtg.colour.channel === "none") return;
    const swatches = (kind.from0 ? [0, 0.25, 0.5, 0.75, 1] : [-1, -0.5, 0, 0.5, 1]).map((mark) => {
      const swatch = el("i", { class: "tok " + (kind.from0 ? "high" : mark > 0 ? "pos" : mark < 0 ? "neg" : "") });
      swatch.style.setProperty("--m", Math.abs(mark));
      swatch.style.setProperty("--half-range", 1);
      return swatch;
    });
    if (scales.length === 1 && !scales[0].name) {
      const [low, high] = ends(scales[0].half, kind);
      return void legend.append(el("span", { text: low }), ...swatches, el("span", { text: high }));
    }
    legend.append(...swatches);
    for (const { name, columns, half } of scales) {
      const [low, high] = ends(half, kind);
      legend.append(el("span", { class: "scale", text: `${columns.join(" ")}: ${name} ${low} … ${high}` }));
    }
  }
  root.append(rgtg.labelled({ label: "colour by" }, channel), rgtg.labelled({ label: "reward model" }, measure), legend);
  rgtg.hear(element, "scale", scale);
  rgtg.hear(element, "end", names);
  watch("labels", names);
  names();
  scale();
};

// The examples: one click generates.
rgtg.openings = (element, props, trigger, watch) => {
  const root = element.querySelector(".drawn");
  const AT_ONCE = 5; // the others are in a list
  const button = (text) => rgtg.el("button", { type: "button", class: "opening", title: text, text, onclick: () => trigger("pick", { text }) });
  const list = (texts) => {
    const select = rgtg.field({ label: "More examples", choices: [["", "more …"], ...texts.map((text) => [text, text])] }, "", "openings-more", (text) => {
      if (text) trigger("pick", { text });
      select.value = "";
    });
    return select;
  };
  const draw = () => {
    const texts = JSON.parse(props.value || "[]");
    root.replaceChildren(...texts.slice(0, AT_ONCE).map(button), texts.length > AT_ONCE ? list(texts.slice(AT_ONCE)) : "");
  };
  watch("value", draw);
  draw();
};

// One line of text from the server.
rgtg.line = (element, props, watch) => {
  const root = element.querySelector(".drawn");
  if (props.live) root.setAttribute("role", "status");
  const draw = () => { const text = props.value || ""; if (root.textContent !== text) root.textContent = text; };
  watch("value", draw);
  draw();
};
