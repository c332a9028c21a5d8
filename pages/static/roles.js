// The models of a column that has several: language models in a method's roles, and reward models with weights. A column's value has
// them as `guides`, [[name, weight], …]; in a role the name "" is the model that stands in (pages/roles.py).
rgtg.roles = (() => {
  const weight = (w) => (w === 1 ? "" : `*${w}`);
  const objectives = (role, method) => (role.objective ? [role.objective] : method.objectives);
  const inRole = (model, method, role) => (role.language_model ? model.only_role || !model.objective || objectives(role, method).includes(model.objective) : !model.only_role);
  // the model that has a role where none is named: as `mix_of`
  const standIn = (role, method, models, lm) => {
    const guides = models.filter((m) => !m.only_role), best = objectives(role, method).map((wanted) => guides.find((m) => m.objective === wanted)).find(Boolean);
    if (role.objective && best) return best.name;
    return role.base_lm ? lm : ((best ?? (role.language_model ? null : guides[0]))?.name ?? "");
  };
  const none = (method) => method.roles.map((role) => ["", role.weight]);
  // every model by name, with those that stand in
  const named = (value, method, models, lm) => (value.guides ?? []).map(([name, w], i) => [name || (method.roles[i] ? standIn(method.roles[i], method, models, lm) : ""), w]);
  const words = (guides) => guides.map(([name, w]) => name + weight(w)).join(" + ");
  // the names that cannot be used with this base LM; `models` are those that fit it
  const unfit = (value, method, models, lm) => {
    const fits = (name, role) => models.some((m) => m.name === name && inRole(m, method, role));
    return named(value, method, models, lm).filter(([name], i) => !method.roles[i] || !fits(name, method.roles[i])).map(([name]) => name);
  };
  // a picker for each role, in its order
  function pickers({ value, method, models, lm, id, column, put }) {
    const wrong = unfit(value, method, models, lm);
    return rgtg.el("span", { class: "roles" }, ...method.roles.map((role, i) => {
      const own = standIn(role, method, models, lm), name = value.guides?.[i]?.[0] ?? "", help = own ? `${own} stands in where none is chosen` : "No model for this role is installed";
      const choices = [["", own ? `${own} (stand-in)` : "none installed"], ...models.filter((m) => inRole(m, method, role)).map((m) => [m.name, m.label])];
      if (name && !choices.some(([key]) => key === name)) choices.push([name, `${name} (not installed)`]);
      const label = `${role.label[0].toUpperCase()}${role.label.slice(1)} of column ${column}`;
      const picker = rgtg.field({ label, choices, help }, name, id(role.name), (now) => {
        const guides = method.roles.map((one, j) => [j === i ? now : (value.guides?.[j]?.[0] ?? ""), value.guides?.[j]?.[1] ?? one.weight]);
        put(guides);
        document.getElementById(id(role.name))?.focus();
      });
      picker.toggleAttribute("aria-invalid", wrong.includes(name || own) || (!name && !own));
      return rgtg.labelled({ label: role.label, help }, picker);
    }));
  }
  return { none, named, words, unfit, pickers };
})();

// What a column's settings may do to other columns: a copy of it, and one of its parameters in all columns that have it.
rgtg.others = (() => {
  const setters = {}; // letter -> (value) => …, filled by columnSettings
  const count = () => rgtg.currentSettings?.().columns ?? 0;
  const letters = () => Object.keys(setters).sort();
  function duplicate(column) {
    const next = letters()[count()];
    if (!next) return;
    setters[next].set(setters[column].value());
    rgtg.putSettings({ columns: count() + 1 });
    rgtg.say(`column ${next} is a copy of column ${column}`);
    for (const open of document.querySelectorAll(".rgtg-column details[open]")) open.open = false;
    document.getElementById(`settings-${next}-method`)?.focus();
  }
  function applyToAll(column, parameter, value) {
    const changed = letters().slice(0, count()).filter((letter) => letter !== column && setters[letter].take(parameter.name, value));
    rgtg.say(changed.length ? `${parameter.label} ${value} in columns ${[column, ...changed].sort().join(", ")}` : `no other column has ${parameter.label}`);
  }
  function buttons({ column, id, parameters, read }) {
    const copy = rgtg.el("button", { type: "button", id: id("duplicate"), class: "small", onclick: () => duplicate(column) });
    const offer = () => {
      const next = letters()[count()];
      copy.disabled = !next;
      copy.textContent = next ? `Duplicate as column ${next}` : "Duplicate: there are six columns";
    };
    rgtg.hear(copy, "settings", offer);
    setTimeout(offer); // once all columns are there
    return rgtg.el("div", { class: "others" }, copy,
      ...parameters.map((p) => rgtg.el("button", { type: "button", id: id("all-" + p.name), class: "small", title: `Set ${p.label} to the value of this column in every column that has it`, onclick: () => applyToAll(column, p, read(p)), text: `Set ${p.label} in all columns` })));
  }
  return { setters, buttons };
})();
