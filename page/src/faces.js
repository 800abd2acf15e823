/** The vocabulary as faces to click: one for the expression, one for the second. */

import { element, rove } from './dom.js';
import { NONE } from './vocabulary.js';

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

export function makeFaces(values, table) {
    let which = 'expression';
    const faces = [NONE, ...Object.keys(table.expressions)].map((name) =>
        element(
            'button',
            {
                class: 'fx-face',
                role: 'radio',
                'data-name': name,
                title: name,
                onclick: (event) => choose(name, event.shiftKey),
            },
            element('img', { alt: '', width: SIZE / 2, height: SIZE / 2, draggable: 'false' }),
            element('span', {}, name),
        ));
    const grid = element('div', { class: 'fx-grid', role: 'radiogroup', 'aria-label': 'expression' }, ...faces);
    const choose = (name, second) => values.change({ [second && values.has('second_expression') ? 'second_expression' : which]: name });
    rove(grid, '.fx-face', (face) => choose(face.dataset.name, false));

    const turn = (name) => {
        which = name;
        grid.setAttribute('aria-label', name === 'expression' ? 'expression' : 'second expression');
        for (const button of choice.children) button.setAttribute('aria-pressed', button.dataset.which === name);
        show(values.read());
    };
    const choice = element('div', { class: 'fx-choice', role: 'group', 'aria-label': 'a click chooses' });
    if (values.has('second_expression')) {
        for (const [name, text] of [['expression', 'Expression'], ['second_expression', 'Second, to blend']]) {
            choice.append(element('button', { 'data-which': name, onclick: () => turn(name) }, text));
        }
    }

    const show = (now) => {
        const disabled = values.isLinked(which);
        for (const face of faces) {
            const { name } = face.dataset;
            const chosen = now[which] === name;
            face.setAttribute('aria-checked', chosen);
            face.tabIndex = chosen || (face === faces[0] && !(now[which] in table.expressions)) ? 0 : -1;
            face.disabled = disabled;
            face.classList.toggle('fx-first', now.expression === name);
            face.classList.toggle('fx-second', now.second_expression === name && name !== NONE);
        }
    };
    turn(which);
    return {
        root: element('div', {}, choice, grid),
        show,
        picture: (name, address) => (faces.find((face) => face.dataset.name === name).firstChild.src = address),
    };
}
