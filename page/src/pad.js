/** The valence/arousal pad: a plane for the pointer, two sliders for the keyboard and for screen readers. */

import { ANCHORS, placeOf, valuesAt } from './circumplex.js';
import { element, slider } from './dom.js';
import { say } from './words.js';

const INSET = 0.78; // where a word of strength 1 stands; the edge is stronger
const SETS = ['expression', 'intensity', 'second_expression', 'second_weight']; // in the order of `valuesAt`

export function makePad(values, note) {
    const isLinked = () => SETS.some((name) => values.isLinked(name)); // then the others would be set for an expression that is not used
    const point = element('div', { class: 'fx-point' });
    const words = ANCHORS.map(({ name, valence, arousal }) =>
        element('span', { style: `left: ${50 + 50 * INSET * valence}%; top: ${50 - 50 * INSET * arousal}%` }, say(name)));
    const plane = element('div', { class: 'fx-plane', 'aria-hidden': 'true' }, ...words, point);
    let place = { valence: 0, arousal: 0 };

    const go = (valence, arousal) => {
        if (isLinked()) return;
        place = { valence, arousal };
        values.set(valuesAt(valence, arousal));
    };
    const follow = (event) => {
        const box = plane.getBoundingClientRect();
        const along = (at, start, size) => Math.min(Math.max((2 * (at - start)) / size - 1, -1), 1) / INSET;
        go(along(event.clientX, box.left, box.width), -along(event.clientY, box.top, box.height));
    };
    plane.addEventListener('pointerdown', (event) => {
        if (isLinked()) return;
        plane.setPointerCapture(event.pointerId);
        follow(event);
    });
    plane.addEventListener('pointermove', (event) => plane.hasPointerCapture(event.pointerId) && follow(event));
    plane.addEventListener('lostpointercapture', () => values.rest());

    const axis = (label, move) => {
        const made = slider({ label, max: 1.25, move, done: () => values.rest() });
        made.input.min = -1.25;
        return made;
    };
    const valence = axis(say('valence (unpleasant to pleasant)'), (to) => go(to, place.arousal));
    const arousal = axis(say('arousal (calm to excited)'), (to) => go(place.valence, to));
    const group = { class: 'fx-pad', role: 'group', 'aria-label': say('Feeling'), ...note.explains };
    const root = element('div', group, plane, valence.root, arousal.root);
    return {
        root,
        show(now) {
            const found = placeOf(now);
            point.hidden = !found;
            // where calm pulls, the values hold less than the hand showed: the point stays under the hand
            const same = JSON.stringify(valuesAt(place.valence, place.arousal)) === JSON.stringify(pick(now));
            if (found && !same) place = found;
            point.style.left = `${50 + 50 * INSET * place.valence}%`;
            point.style.top = `${50 - 50 * INSET * place.arousal}%`;
            const disabled = isLinked();
            root.setAttribute('aria-disabled', disabled);
            valence.set(place.valence, disabled);
            arousal.set(place.arousal, disabled);
        },
    };
}

function pick(values) {
    return Object.fromEntries(SETS.map((name) => [name, values[name]]));
}
