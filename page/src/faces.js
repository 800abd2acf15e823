/** The vocabulary as faces to click: one for the expression, one for the second. */

import { element } from './dom.js';
import { NONE } from './vocabulary.js';
import { say } from './words.js';

const SIZE = 112; // pixels; shown at half of it
const pictures = new Map(); // name -> address of its picture, for all editors of the page

/** Draw the pictures, one at a time, so that the page stays responsive; `ready` after each. */
export async function drawFaces(head, table, ready) {
    const canvas = element('canvas', { width: SIZE, height: SIZE });
    for (const name of [NONE, ...Object.keys(table.expressions)]) {
        if (!pictures.has(name)) {
            head.draw(canvas, table.expressions[name]?.blendshapes ?? {}, undefined, true);
            pictures.set(name, canvas.toDataURL());
            await new Promise((resume) => setTimeout(resume));
        }
        ready(name, pictures.get(name));
    }
}

/** An expression's picture and name around its `input`. */
export function faceOf(name, input) {
    const picture = element('img', { alt: '', width: SIZE / 2, height: SIZE / 2, draggable: 'false' });
    return { input, picture, label: element('label', { class: 'fx-face', title: name }, input, picture, element('span', {}, say(name))) };
}

let editors = 0;

export function makeFaces(values, table, note) {
    const group = `fx-faces-${++editors}`;
    let which = 'expression';
    const faces = [NONE, ...Object.keys(table.expressions)].map((name) => {
        const radio = element('input', { type: 'radio', name: group, value: name, onchange: () => values.change({ [which]: name }) });
        const { label, picture } = faceOf(name, radio);
        label.addEventListener('click', (event) => {
            if (!event.shiftKey || !values.has('second_expression')) return;
            event.preventDefault();
            values.change({ second_expression: name });
        });
        return { name, radio, label, picture };
    });
    const grid = element('div', { class: 'fx-grid', role: 'radiogroup', ...note.explains }, ...faces.map((face) => face.label));
    const choice = element('div', { class: 'fx-choice', role: 'group', 'aria-label': say('a click chooses') });
    for (const [name, text] of [['expression', say('Expression')], ['second_expression', say('Second, to blend')]]) {
        if (values.has('second_expression')) choice.append(element('button', { 'data-which': name, onclick: () => turn(name) }, text));
    }

    function turn(name) {
        which = name;
        grid.setAttribute('aria-label', say(name.replace('_', ' ')));
        for (const button of choice.children) button.setAttribute('aria-pressed', button.dataset.which === name);
        show(values.read());
    }

    function show(now) {
        for (const { name, radio, label } of faces) {
            radio.checked = now[which] === name;
            radio.disabled = values.isLinked(which);
            label.classList.toggle('fx-first', now.expression === name);
            label.classList.toggle('fx-second', now.second_expression === name && name !== NONE);
        }
    }

    turn(which);
    return {
        root: element('div', {}, choice, grid),
        show,
        picture: (name, address) => (faces.find((face) => face.name === name).picture.src = address),
    };
}
