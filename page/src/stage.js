/** The head on its canvas: it shows the values, can be pulled at its regions, and turned by pulling beside it. */

import { element } from './dom.js';
import { handleNear, handlesOf, pulled } from './regions.js';
import { blendshapesOf, formatUnits, parseUnits, strengthOf, withStrength } from './vocabulary.js';
import { say } from './words.js';

const TURN = { yaw: 0.7, pitch: 0.35 }; // radians, the most
const gone = new FinalizationRegistry((forget) => forget());

export function makeStage(values, table, head, isOneSided) {
    const canvas = element('canvas', { class: 'fx-head', role: 'img' });
    const mark = element('div', { class: 'fx-mark', hidden: true });
    const root = element('div', { class: 'fx-stage' }, canvas, mark);
    const handles = head ? handlesOf(head) : [];
    const turn = { yaw: 0, pitch: 0 };
    let hold = null;
    let waiting = false;

    function draw() {
        waiting = false;
        if (!head || !canvas.isConnected) return;
        const [width, height] = [canvas.clientWidth, canvas.clientHeight].map((side) => Math.round(side * Math.min(devicePixelRatio, 2)));
        if (!width || !height) return;
        if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
        head.draw(canvas, blendshapesOf(values.read(), table), turn);
    }

    function redraw() {
        if (waiting) return;
        waiting = true;
        requestAnimationFrame(draw);
    }

    const aspect = () => canvas.clientWidth / canvas.clientHeight;
    const pointOf = (event) => {
        const box = canvas.getBoundingClientRect();
        return { x: (event.clientX - box.left) / box.width, y: (event.clientY - box.top) / box.height };
    };
    const canPull = () => values.has('action_units') && !values.isLinked('action_units');
    const find = (point) => (canPull() && head ? locate(point) : undefined);

    function locate(point) {
        head.draw(canvas, blendshapesOf(values.read(), table), turn); // the one head may last have shown another editor's values
        return handleNear(handles, head, point, aspect());
    }

    function showMark(handle) {
        mark.hidden = !handle;
        root.classList.toggle('fx-pulling', Boolean(handle));
        if (!handle) return;
        const spot = head.spot(handle.vertex);
        mark.style.left = `${100 * spot.x}%`;
        mark.style.top = `${100 * spot.y}%`;
        mark.title = say(handle.name);
    }

    canvas.addEventListener('pointerdown', (event) => {
        if (!head || event.button) return;
        canvas.setPointerCapture(event.pointerId);
        const from = pointOf(event);
        const units = parseUnits(values.read().action_units, table) ?? new Map();
        hold = { from, units, handle: find(from), turn: { ...turn } };
    });
    canvas.addEventListener('pointermove', (event) => {
        const point = pointOf(event);
        if (!hold) return showMark(find(point));
        const [right, down] = [(point.x - hold.from.x) * aspect(), point.y - hold.from.y];
        if (hold.handle) pull(right, down, isOneSided() || event.shiftKey);
        else {
            turn.yaw = limit(hold.turn.yaw + 2 * right, TURN.yaw);
            turn.pitch = limit(hold.turn.pitch + 2 * down, TURN.pitch);
            redraw();
        }
    });
    canvas.addEventListener('lostpointercapture', () => {
        const pulling = hold?.handle;
        hold = null;
        if (pulling) values.rest();
    });
    canvas.addEventListener('pointerleave', () => hold || showMark(undefined));
    canvas.addEventListener('dblclick', () => {
        Object.assign(turn, { yaw: 0, pitch: 0 });
        redraw();
    });
    new ResizeObserver(redraw).observe(canvas);
    if (head) redrawWhenRestored(head, redraw);

    function pull(right, down, oneSided) {
        const { handle } = hold;
        const side = oneSided ? handle.side : '';
        let { units } = hold;
        for (const [number, strength] of Object.entries(pulled(handle, (n) => strengthOf(units, n, side), right, down))) {
            units = withStrength(units, Number(number), side, strength);
        }
        values.set({ action_units: formatUnits(units) });
        showMark(handle);
    }

    return { root, canvas, redraw };
}

/** The head outlives every node and must hold none. Its own function: one made in `makeStage` would hold all that is there. */
function redrawWhenRestored(head, redraw) {
    const held = new WeakRef(redraw);
    const again = () => held.deref()?.();
    head.restored.push(again);
    gone.register(redraw, () => head.restored.splice(head.restored.indexOf(again), 1));
}

function limit(value, most) {
    return Math.min(Math.max(value, -most), most);
}
