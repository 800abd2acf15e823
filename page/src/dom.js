/** An element with properties (`class`, `on...` listeners, `aria-...` and other attributes) and children. */
export function element(tag, properties = {}, ...children) {
    const made = document.createElement(tag);
    for (const [name, value] of Object.entries(properties)) {
        if (name.startsWith('on')) made.addEventListener(name.slice(2), value);
        else if (name === 'class') made.className = value;
        else if (value === true) made.setAttribute(name, '');
        else if (value !== false && value != null) made.setAttribute(name, value);
    }
    made.append(...children);
    return made;
}

/** A labelled range input. `move(value)` is called while it moves, `done()` when it rests. */
export function slider({ label, max, step = 0.05, move, done }) {
    const shown = element('output', { class: 'fx-value' });
    const input = element('input', {
        type: 'range',
        min: 0,
        max,
        step,
        'aria-label': label,
        oninput: () => move(Number(input.value)),
        onchange: done,
    });
    return {
        root: element('label', { class: 'fx-slider' }, element('span', {}, label), input, shown),
        input,
        set(value, disabled = false) {
            input.value = value;
            input.disabled = disabled;
            shown.value = value.toFixed(2);
        },
    };
}

/** Arrow keys, Home and End among the children that match; only the current one is in the tab order. */
export function rove(container, selector, chosen = () => {}) {
    container.addEventListener('keydown', (event) => {
        const items = [...container.querySelectorAll(selector)];
        const at = items.indexOf(document.activeElement);
        if (at < 0) return;
        const row = items.filter((item) => item.offsetTop === items[0].offsetTop).length;
        const steps = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: row, ArrowUp: -row, Home: -at, End: items.length - 1 - at };
        const step = steps[event.key];
        const next = items[at + step];
        if (step === undefined) return;
        event.preventDefault();
        if (next) {
            next.focus();
            chosen(next);
        }
    });
}
