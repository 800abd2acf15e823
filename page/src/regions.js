/** Where the face can be pulled, and which action units that moves. Places are metres in the resting mesh, on the person's left. */

export const HANDLES = [
    { name: 'inner brow', x: 0.014, z: 0.744, up: [1], down: [4] },
    { name: 'outer brow', x: 0.043, z: 0.746, up: [2], down: [4] },
    { name: 'upper eyelid', x: 0.032, z: 0.729, up: [5], down: [43] },
    { name: 'lower eyelid', x: 0.032, z: 0.714, up: [7], down: [] },
    { name: 'cheek', x: 0.045, z: 0.692, up: [6], down: [] },
    { name: 'side of the nose', x: 0.016, z: 0.694, up: [9], down: [] },
    { name: 'corner of the mouth', x: 0.024, z: 0.665, up: [12], down: [15], out: [20], in: [14] },
    { name: 'upper lip', x: 0.008, z: 0.671, up: [10], down: [24] },
    { name: 'lower lip', x: 0, z: 0.656, up: [23], down: [25] },
    { name: 'chin', x: 0, z: 0.622, up: [17], down: [26, 27] },
];

export const REACH = 0.07; // fraction of the canvas's height
const FULL = 0.25; // pulling by this fraction of the height is a strength of 1
const SIDEWAYS_FROM = 0.05; // so that pulling up does not also pull sideways

/** Every place to pull with its vertex: those off the middle are there twice. */
export function handlesOf(head) {
    return HANDLES.flatMap((handle) => {
        const sides = handle.x ? ['L', 'R'] : [''];
        return sides.map((side) => ({ ...handle, side, vertex: head.vertexAt(side === 'R' ? -handle.x : handle.x, handle.z) }));
    });
}

/** The handle nearest to a point (fractions of the canvas), or undefined if none is within reach. */
export function handleNear(handles, head, point, aspect) {
    const distance = (handle) => {
        const spot = head.spot(handle.vertex);
        return Math.hypot((spot.x - point.x) * aspect, spot.y - point.y);
    };
    const near = handles.map((handle) => [distance(handle), handle]).filter(([away]) => away < REACH);
    return near.sort(([a], [b]) => a - b)[0]?.[1];
}

/**
 * Strengths after pulling: action unit number -> 0..1. `from(number)` is a unit's strength when the pull began; `right` and `down` are how far
 * the hand went, in fractions of the canvas's height.
 */
export function pulled(handle, from, right, down) {
    const outwards = handle.side === 'R' ? -right : right; // the person's left is on the picture's right
    const sideways = Math.sign(outwards) * Math.max(Math.abs(outwards) - SIDEWAYS_FROM, 0);
    return { ...along(handle.up, handle.down, from, -down), ...along(handle.out ?? [], handle.in ?? [], from, sideways) };
}

/** One axis: from full strength of `back` over rest to full strength of `forth`. */
function along(forth, back, from, way) {
    const reach = (numbers) => Math.max(0, ...numbers.map(from));
    const start = reach(forth) || -reach(back);
    const at = Math.min(Math.max(start + way / FULL, -1), 1);
    return { ...shares(forth, Math.max(at, 0)), ...shares(back, Math.max(-at, 0)) };
}

/** The jaw drops first (26), then the mouth opens wide (27): of two units the first goes over into the second half-way. */
function shares(numbers, amount) {
    if (numbers.length < 2) return Object.fromEntries(numbers.map((number) => [number, amount]));
    const [first, second] = numbers;
    return amount <= 0.5 ? { [first]: 2 * amount, [second]: 0 } : { [first]: 0, [second]: amount };
}
