// Several rewards with weights in a column's settings: rows to edit, and one line that says the mix.
rgtg.NO_MIX = { guides: undefined, combine: undefined };
rgtg.mix = (value) => (value?.guides?.length ? value.guides : null);

// whether a text was made with the mix that the settings show
rgtg.sameMix = (head, value) => {
  const now = rgtg.mix(value) ?? (value.reward_model ? [[value.reward_model, 1]] : []), made = head.guides ?? [];
  return JSON.stringify(made) === JSON.stringify(now) && (!made.length || (head.combine ?? "sum") === (value.combine ?? "sum"));
};

// "partial·2 + full·0.5", as pickers name the models
rgtg.mixWords = (guides, models = []) =>
  guides.map(([name, weight]) => (models.find((m) => m.name === name)?.label ?? name) + (weight === 1 ? "" : "·" + (weight ?? "?"))).join(" + ");

// {summary, rows}: the line for the head of a column, and what is edited in its settings. A single reward of weight 1 is no mix: the
// head has a picker for it.
rgtg.mixRows = ({ column, value, models, combinations, put, redraw }) => {
  const { el } = rgtg;
  const id = (name) => `settings-${column}-${name}`;
  const first = combinations[0]?.key;
  const rewards = () => (rgtg.mix(value) ?? [[value.reward_model, 1]]).map((row) => [...row]);
  const way = () => (value.combine ?? first).replace(/\(.*/, "");
  const chosen = () => combinations.find((c) => c.key === way()) ?? combinations[0];
  const number = () => /\((.*)\)/.exec(value.combine ?? "")?.[1] ?? chosen().default;

  function set(guides, combine) {
    const single = guides.length === 1 && guides[0][1] === 1 && combine === first;
    const changes = { reward_model: guides[0][0], ...(single ? rgtg.NO_MIX : { guides, combine }) };
    const was = !!rgtg.mix(value);
    value = { ...value, ...changes };
    put(changes);
    say();
    return was === single; // the head shows the other one from now on
  }
  const summary = el("button", { type: "button", id: id("mix"), class: "mix-line", "aria-label": "", onclick: () => setTimeout(() => {
    const more = summary.closest(".drawn").querySelector(".more");
    more.open = true;
    document.getElementById(id("guide-0"))?.focus();
  }) });
  function say() {
    const words = rgtg.mixWords(rewards(), models), title = chosen().title;
    summary.replaceChildren(el("span", { text: words }));
    summary.title = `${words} (${title})`;
    summary.setAttribute("aria-label", `Rewards of column ${column}: ${words}, ${title}. Edit`);
  }

  function row([name, weight], place) {
    const used = rewards().map(([other]) => other);
    const choices = models.filter((m) => m.name === name || !used.includes(m.name)).map((m) => [m.name, m.label]);
    if (!choices.some(([key]) => key === name)) choices.unshift([name ?? "", name || "no reward model"]);
    const picker = rgtg.field({ label: `Reward ${place + 1} of column ${column}`, choices }, name, id(`guide-${place}`), (now) => {
      const guides = rewards();
      guides[place][0] = now;
      set(guides, value.combine ?? first);
      redraw(id(`guide-${place}`));
    });
    const input = rgtg.field({ label: `Weight of reward ${place + 1} of column ${column}`, help: "Weight: larger values follow this reward more closely, negative ones work against it, 0 leaves it out" }, weight, id(`weight-${place}`), (now) => {
      const guides = rewards();
      guides[place][1] = now;
      if (set(guides, value.combine ?? first)) redraw(id(`weight-${place}`));
    });
    const remove = el("button", { type: "button", class: "small remove", id: id(`remove-${place}`), "aria-label": `Remove reward ${place + 1} of column ${column}`, title: "Remove this reward", text: "×", disabled: rewards().length < 2, onclick: () => {
      set(rewards().filter((_, at) => at !== place), value.combine ?? first);
      redraw(id(`guide-${Math.max(0, place - 1)}`));
    } });
    return el("div", { class: "mix-row" }, picker, el("span", { class: "times", "aria-hidden": "true", text: "×" }), input, remove);
  }
  const free = models.filter((m) => !rewards().some(([name]) => name === m.name));
  const add = el("button", { type: "button", class: "small", id: id("add-reward"), text: "Add a reward", disabled: !free.length || rewards().length >= 8, onclick: () => {
    const place = rewards().length;
    set([...rewards(), [free[0].name, 1]], value.combine ?? first);
    redraw(id(`guide-${place}`));
  } });
  const picker = rgtg.field({ label: `Combination of the rewards of column ${column}`, help: chosen().about, choices: combinations.map((c) => [c.key, c.title, null, c.about]) }, way(), id("combine"), (key) => {
    set(rewards(), key);
    redraw(id("combine"));
  });
  const parameter = chosen().symbol && rgtg.labelled({ label: chosen().symbol }, rgtg.field({ label: `${chosen().symbol} of the combination of column ${column}`, min: 0, step: "any" }, Number(number()), id("number"), (now) => set(rewards(), now === null ? way() : `${way()}(${now})`)));
  const rows = el("div", { class: "mix-rows", id: id("guides"), role: "group", "aria-label": `Rewards of column ${column}` },
    ...rewards().map(row), el("div", { class: "mix-foot" }, add, picker, parameter), el("p", { class: "help", text: chosen().about }));
  say();
  return { summary, rows };
};
