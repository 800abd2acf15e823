/** The editor as one element: the head, what it shows in words, strengths, and panels. */

import { element, keepFocus, rove, slider } from './dom.js';
import { drawFaces, makeFaces } from './faces.js';
import { makeNote } from './links.js';
import { makePad } from './pad.js';
import { makePresets } from './presets.js';
import { makeStage } from './stage.js';
import { makeUnits } from './units.js';
import { NONE, blendshapesOf, describe } from './vocabulary.js';
import { say } from './words.js';

export function makeEditor(values, { table, head, why }) {
    const oneSided = switchButton();
    const note = makeNote(values);
    const { undo, redo, showSteps } = undoButtons(values, note);
    const rest = element('button', { title: say('a neutral face'), onclick: () => values.change(NEUTRAL), ...note.explains }, say('Neutral'));
    const stage = makeStage(values, table, head, () => oneSided.getAttribute('aria-pressed') === 'true');
    const words = element('p', { class: 'fx-words', role: 'status', 'aria-live': 'polite', ...SCROLLS });
    const strengths = ['intensity', 'second_weight'].filter((name) => values.has(name)).map((name) => {
        const move = (value) => values.set({ [name]: value });
        return { name, ...slider({ label: say(name.replace('_', ' ')), max: table.max_weight, move, done: () => values.rest() }) };
    });
    const panels = [[say('Faces'), makeFaces(values, table, note)]];
    if (values.has('second_expression')) panels.push([say('Feeling'), makePad(values, note)]);
    if (values.has('action_units')) panels.push([say('Muscles'), makeUnits(values, table, note)]);
    if (values.has('intensity')) panels.push([say('Mine'), makePresets(values, table, note)]);
    const tools = values.has('action_units') ? [oneSided, rest] : [rest];

    const left = element(
        'div',
        { class: 'fx-left' },
        element('div', { class: 'fx-view' }, head ? stage.root : element('p', { class: 'fx-missing', role: 'alert' }, why), note.root),
        element('div', { class: 'fx-tools', role: 'toolbar', 'aria-label': say('expression editor') }, undo, redo, ...tools),
        words,
        ...strengths.map((strength) => strength.root),
    );
    const root = element('div', { class: 'fx-body' }, left, tabs(panels));

    function show(now) {
        for (const { name, set } of strengths) set(now[name], values.isLinked(name));
        for (const [, panel] of panels) panel.show(now);
        note.show();
        showSteps();
        rest.disabled = !values.settable(NEUTRAL).length;
        words.textContent = values.has('intensity') ? describe(now, table) : wholeFaceOr(now.expression);
        stage.canvas.setAttribute('aria-label', say('face: {0}', words.textContent));
        stage.redraw();
    }

    keepToItself(root, values);
    values.onChange((now) => keepFocus(root, () => show(now)));
    show(values.read());
    if (head) drawFaces(head, table, panels[0][1].picture);
    return { root, blendshapes: () => blendshapesOf(values.read(), table) };
}

/** Where an expression says but which parts of the face are meant. */
const wholeFaceOr = (name) => (name === NONE ? say('the whole face') : say(name));

const NEUTRAL = { expression: 'neutral', intensity: 1, second_expression: 'none', action_units: '' };

/** Keys and pointers that are used in here are none of the page's, which would move or delete the node. */
export function keepToItself(root, values) {
    root.addEventListener('keydown', (event) => {
        const key = event.key.toLowerCase();
        if (!event.ctrlKey && !event.metaKey) event.stopPropagation(); // the page would move or delete the node
        else if ((key === 'z' || key === 'y') && event.target.matches('input:not([type=text])')) {
            // elsewhere the page undoes by itself, also what was done in here
            event.preventDefault();
            if (key === 'y' || event.shiftKey) values.redo();
            else values.undo();
        }
    });
    // nor is it to move the node while something in here is pulled
    for (const kind of ['pointerdown', 'pointermove', 'pointerup', 'mousedown', 'dblclick']) root.addEventListener(kind, (event) => event.stopPropagation());
}

/** Nodes 2.0 zooms by the wheel over a node, but not over what says that it scrolls. */
export const SCROLLS = { 'data-capture-wheel': 'true' };

/** Whether the head is pulled on one side alone. */
export function switchButton() {
    const turn = () => button.setAttribute('aria-pressed', button.getAttribute('aria-pressed') !== 'true');
    const button = element('button', { 'aria-pressed': 'false', title: say('pull one side only (or hold Shift)'), onclick: turn }, say('One side'));
    return button;
}

export function undoButtons(values, note) {
    const undo = element('button', { title: say('undo'), 'aria-label': say('undo'), onclick: () => values.undo(), ...note.explains }, '↶');
    const redo = element('button', { title: say('redo'), 'aria-label': say('redo'), onclick: () => values.redo(), ...note.explains }, '↷');
    const showSteps = () => {
        undo.disabled = !values.canUndo();
        redo.disabled = !values.canRedo();
    };
    return { undo, redo, showSteps };
}

export function tabs(panels) {
    const list = element('div', { class: 'fx-tabs', role: 'tablist' });
    const root = element('div', { class: 'fx-right' }, list);
    const open = (name) => {
        for (const tab of list.children) {
            const chosen = tab.dataset.name === name;
            tab.setAttribute('aria-selected', chosen);
            tab.tabIndex = chosen ? 0 : -1;
            tab.panel.hidden = !chosen;
            if (chosen) tab.opened?.();
        }
    };
    for (const [name, { root: content, opened }] of panels) {
        const tab = element('button', { role: 'tab', 'data-name': name, onclick: () => open(name) }, name);
        tab.opened = opened;
        tab.panel = element('div', { class: 'fx-panel', role: 'tabpanel', 'aria-label': name, ...SCROLLS }, content);
        tab.panel.addEventListener('wheel', (event) => event.stopPropagation());
        list.append(tab);
        root.append(tab.panel);
    }
    rove(list, (tab) => open(tab.dataset.name));
    open(panels[0][0]);
    return root;
}
