/** What comes by a link is left alone. One line says which values these are, to the eye and to screen readers. */

import { element } from './dom.js';
import { say } from './words.js';

let notes = 0;

/** The line, and the attribute of what it `explains`. */
export function makeNote(values) {
    const root = element('p', { class: 'fx-linked', id: `fx-linked-${++notes}`, role: 'status' });
    return {
        root,
        explains: { 'aria-describedby': root.id },
        show() {
            const names = values.linked().join(', ');
            const text = names && say('By a link, neither set nor shown here: {0}', names);
            if (root.textContent !== text) root.textContent = text; // screen readers would say it again
        },
    };
}
