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
    let moving = false;
    // a slider that is back where it was when it is let go has no `change`
    const rest = () => {
        if (!moving) return;
        moving = false;
        done();
    };
    const input = element('input', {
        type: 'range',
        min: 0,
        max,
        step,
        'aria-label': label,
        oninput: () => {
            moving = true;
            move(Number(input.value));
        },
        onchange: rest,
        onpointerup: rest,
        onblur: rest,
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

const isUsable = (control) => control.isConnected && !control.disabled && control.tabIndex >= 0 && control.checkVisibility();

/**
 * Do what may disable, hide or remove the control that has the keyboard; the nearest one has it then. On the page's body, where it would fall
 * to, the next Delete deletes the node.
 */
export function keepFocus(root, act) {
    const held = document.activeElement;
    const controls = root.contains(held) ? [...root.querySelectorAll('button, input')] : [];
    act();
    if (!controls.length || isUsable(document.activeElement)) return;
    const away = (control) => Math.abs(controls.indexOf(control) - controls.indexOf(held));
    controls.filter(isUsable).sort((one, other) => away(one) - away(other))[0]?.focus();
}

/** Other rows in a list: where one of the old had the keyboard, the new one in its place has it, or the last, or the control `otherwise()`. */
export function replaceRows(list, rows, otherwise) {
    const place = [...list.children].findIndex((row) => row.contains(document.activeElement));
    list.replaceChildren(...rows);
    if (place < 0) return;
    const row = rows[Math.min(place, rows.length - 1)];
    (row?.querySelector('button:enabled') ?? otherwise())?.focus();
}

/** Arrow keys, Home and End among the tabs of a list; only the chosen one is in the tab order. */
export function rove(list, choose) {
    list.addEventListener('keydown', (event) => {
        const items = [...list.children];
        const at = items.indexOf(document.activeElement);
        const next = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: items.length - 1 }[event.key];
        if (at < 0 || !items[next]) return;
        event.preventDefault();
        items[next].focus();
        choose(items[next]);
    });
}

/** Have `after` called, with what was given, whenever `target[name]` was. */
export function chain(target, name, after) {
    const before = target[name];
    target[name] = function (...given) {
        const answer = before?.apply(this, given);
        after(...given);
        return answer;
    };
}
