/** The editor of a list of expressions: faces to tick, in the order in which they are drawn, and a head that shows the one looked at. */

import { element, keepFocus, replaceRows } from './dom.js';
import { basic, formatEntries, isReadable, lookOf, parseEntries, strongest } from './entries.js';
import { drawFaces, faceOf } from './faces.js';
import { makeNote } from './links.js';
import { makeStage } from './stage.js';
import { makeUnits } from './units.js';
import { blendshapesOf, describe } from './vocabulary.js';
import { SCROLLS, keepToItself, switchButton, tabs, undoButtons } from './widget.js';
import { say } from './words.js';

export const LIST = { expressions: 'all', intensities: '1.0' };

/** What the head shows, as `Values` has it: no widget holds it. A face that is pulled is one of action units alone, as an entry is. */
class Look {
    constructor(strength) {
        this.strength = strength;
        this.shown = { expression: 'neutral', action_units: '' };
        this.listeners = [];
    }

    has(name) {
        return name in this.shown;
    }

    isLinked() {
        return false;
    }

    read() {
        return { second_expression: 'none', second_weight: 0, intensity: this.strength(), ...this.shown };
    }

    set(changes) {
        this.shown = { ...this.shown, ...(changes.action_units ? { expression: 'none' } : {}), ...changes };
        this.tell();
    }

    rest() {}

    tell() {
        for (const listener of this.listeners) listener(this.read());
    }
}

export function makeListEditor(values, { table, head, why }) {
    const look = new Look(() => strongest(values.read().intensities, table));
    const entries = () => parseEntries(values.read().expressions, table);
    const write = (list) => values.change({ expressions: formatEntries(list, table) });
    const toggle = (entry, wanted) => write(wanted ? [...entries(), entry] : entries().filter((one) => one !== entry));
    const oneSided = switchButton();
    const note = makeNote(values);
    const { undo, redo, showSteps } = undoButtons(values, note);
    const add = element('button', { title: say('add this face to the list'), onclick: addFace, ...note.explains }, say('Add'));
    const stage = makeStage(look, table, head, () => oneSided.getAttribute('aria-pressed') === 'true');
    const words = element('p', { class: 'fx-words', role: 'status', 'aria-live': 'polite', ...SCROLLS });
    const list = element('ol', { class: 'fx-list', 'aria-label': say('what is drawn, in this order'), ...SCROLLS });
    const ticks = makeTicks();
    const units = makeUnits(look, table);

    function makeTicks() {
        const faces = Object.keys(table.expressions).map((name) => {
            const input = element('input', { type: 'checkbox', value: name });
            input.addEventListener('change', () => {
                look.set(lookOf(name, table));
                toggle(name, input.checked);
            });
            return { name, ...faceOf(name, input) };
        });
        const all = element('button', { onclick: () => write(basic(table)), ...note.explains }, say('All basic ones'));
        const none = element('button', { onclick: () => write([]), ...note.explains }, say('None'));
        const group = { class: 'fx-grid', role: 'group', 'aria-label': say('Faces'), ...note.explains };
        const grid = element('div', group, ...faces.map((face) => face.label));
        return {
            root: element('div', {}, element('div', { class: 'fx-choice' }, all, none), grid),
            picture: (name, address) => faces.filter((face) => face.name === name).forEach((face) => (face.picture.src = address)),
            show(chosen, disabled) {
                all.disabled = none.disabled = disabled;
                for (const { name, input, label } of faces) {
                    const place = chosen.indexOf(name);
                    input.checked = place >= 0;
                    input.disabled = disabled;
                    label.classList.toggle('fx-first', place >= 0);
                    label.dataset.place = place >= 0 ? place + 1 : '';
                }
            },
        };
    }

    function row(entry, place, all, disabled) {
        const name = nameOf(entry);
        const move = (by) => () => {
            const next = all.filter((one) => one !== entry);
            next.splice(place + by, 0, entry);
            write(next);
            const there = list.children[place + by];
            (there.querySelector(`[data-by="${by}"]:enabled`) ?? there.querySelector('button')).focus();
        };
        const arrow = (by, sign, text) =>
            element('button', { 'data-by': by, 'aria-label': text, disabled: disabled || !all[place + by], onclick: move(by) }, sign);
        return element(
            'li',
            { class: isReadable(entry, table) ? '' : 'fx-wrong' },
            element('button', { class: 'fx-name', onclick: () => look.set(lookOf(entry, table)) }, name),
            arrow(-1, '↑', say('earlier: {0}', name)),
            arrow(1, '↓', say('later: {0}', name)),
            element('button', { 'aria-label': say('take out {0}', name), disabled, onclick: () => toggle(entry, false) }, '✕'),
        );
    }

    /** The face has a row then, which has the keyboard: there is nothing more to add. */
    function addFace() {
        toggle(look.shown.action_units, true);
        list.lastElementChild.querySelector('button').focus();
    }

    const nameOf = (entry) => (entry in table.expressions ? say(entry) : entry);

    function show() {
        const [chosen, disabled] = [entries(), values.isLinked('expressions')];
        note.show();
        showSteps();
        ticks.show(chosen, disabled);
        showLook();
        const rows = chosen.map((entry, place) => row(entry, place, chosen, disabled));
        replaceRows(list, rows, () => [add, undo].find((one) => !one.disabled));
    }

    function showLook() {
        const now = look.read();
        add.disabled = !now.action_units || values.isLinked('expressions') || entries().includes(now.action_units);
        words.textContent = describe(now, table);
        stage.canvas.setAttribute('aria-label', say('face: {0}', words.textContent));
        units.show(now);
        stage.redraw();
    }

    const left = element(
        'div',
        { class: 'fx-left' },
        element('div', { class: 'fx-view' }, head ? stage.root : element('p', { class: 'fx-missing', role: 'alert' }, why), note.root),
        element('div', { class: 'fx-tools', role: 'toolbar', 'aria-label': say('expression editor') }, undo, redo, oneSided, add),
        words,
        list,
    );
    const root = element('div', { class: 'fx-body' }, left, tabs([[say('Faces'), ticks], [say('Muscles'), units]]));
    keepToItself(root, values);
    look.listeners.push(() => keepFocus(root, showLook));
    values.onChange(() => keepFocus(root, show));
    look.set(lookOf(entries().find((entry) => isReadable(entry, table)) ?? 'neutral', table));
    show();
    if (head) drawFaces(head, table, ticks.picture);
    return { root, blendshapes: () => blendshapesOf(look.read(), table) };
}
