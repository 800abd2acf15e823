/** The head: baked by lab/recipe/bake_head.py, deformed here, drawn by OGL. One for the whole page: browsers allow few WebGL contexts. */

import { Camera, Geometry, Mesh, Program, Renderer, Transform, Vec3 } from 'ogl';
import vertex from './paint.vertex.glsl';
import fragment from './paint.fragment.glsl';
import { say } from './words.js';

const FOLDER = new URL('../head/', import.meta.url);
const TYPES = { uint8: Uint8Array, uint16: Uint16Array, int16: Int16Array };

let loading;

/** `{ table, head }`; `head` is null, and `why` says why, where the page has no WebGL. */
export function loadHead() {
    loading ??= load().catch((error) => {
        loading = undefined; // the next editor tries again
        throw error;
    });
    return loading;
}

async function load() {
    const table = await (await fetched('vocabulary.json')).json();
    const canvas = document.createElement('canvas');
    const options = { alpha: true, antialias: true, premultipliedAlpha: true };
    if (!canvas.getContext('webgl2', options)) {
        return { table, head: null, why: say('This browser has no WebGL: the head cannot be drawn. All controls work without it.') };
    }
    const entries = await (await fetched('head.json')).json();
    const data = await (await fetched('head.bin')).arrayBuffer();
    return { table, head: new Head(canvas, unpacked(entries.arrays, data)) };
}

async function fetched(name) {
    const answer = await fetch(new URL(name, FOLDER));
    if (!answer.ok) throw new Error(`${name}: ${answer.status} ${answer.statusText}`);
    return answer;
}

/** Name -> typed array; scaled ones become floats. */
function unpacked(entries, data) {
    const arrays = {};
    for (const { name, type, shape, offset, scale } of entries) {
        const values = new TYPES[type](data, offset, shape.reduce((a, b) => a * b, 1));
        arrays[name] = scale === 1 ? values : Float32Array.from(values, (value) => value * scale);
    }
    return arrays;
}

class Head {
    constructor(canvas, arrays) {
        this.canvas = canvas;
        this.rest = arrays.position;
        this.place = arrays.place;
        this.material = arrays.material;
        this.triangles = arrays.triangles;
        this.shapes = {};
        for (const name of Object.keys(arrays).filter((name) => name.endsWith('.moves'))) {
            const shape = name.slice(0, -'.moves'.length);
            this.shapes[shape] = { vertices: arrays[`${shape}.vertices`], moves: arrays[name] };
        }
        this.arrays = arrays;
        this.position = this.rest.slice();
        this.normal = new Float32Array(this.rest.length);
        this.restored = [];
        this.build();
        canvas.addEventListener('webglcontextlost', (event) => event.preventDefault());
        canvas.addEventListener('webglcontextrestored', () => {
            this.build();
            this.restored.forEach((redraw) => redraw());
        });
    }

    build() {
        this.renderer = new Renderer({ canvas: this.canvas, alpha: true, antialias: true, premultipliedAlpha: true, dpr: 1 });
        const { gl } = this.renderer;
        const { place, masks, material, triangles } = this.arrays;
        this.geometry = new Geometry(gl, {
            position: { size: 3, data: this.position, usage: gl.DYNAMIC_DRAW },
            normal: { size: 3, data: this.normal, usage: gl.DYNAMIC_DRAW },
            place: { size: 3, data: place },
            masks: { size: 4, data: masks, type: gl.UNSIGNED_BYTE, normalized: true },
            material: { size: 1, data: material, type: gl.UNSIGNED_BYTE },
            index: { data: triangles },
        });
        const program = new Program(gl, { vertex, fragment });
        this.mesh = new Mesh(gl, { geometry: this.geometry, program, frustumCulled: false });
        this.scene = new Transform();
        this.mesh.setParent(this.scene);
        this.camera = new Camera(gl, { near: 0.1, far: 3 });
    }

    /** Draw the face with these blendshape weights into a 2D canvas. `turn`: { yaw, pitch } in radians; `near`: the face alone. */
    draw(canvas, weights, turn = { yaw: 0, pitch: 0 }, near = false) {
        this.deform(weights);
        if (this.canvas.width !== canvas.width || this.canvas.height !== canvas.height) this.renderer.setSize(canvas.width, canvas.height);
        this.camera.perspective({ aspect: canvas.width / canvas.height, fov: near ? 14 : 18.5 });
        this.camera.position.set(0, near ? -0.002 : 0.012, 0.78);
        // the mesh has -y to the front and z up
        this.mesh.rotation.x = -Math.PI / 2;
        this.scene.rotation.set(turn.pitch, turn.yaw, 0);
        this.renderer.render({ scene: this.scene, camera: this.camera });
        const context = canvas.getContext('2d');
        context.clearRect(0, 0, canvas.width, canvas.height);
        context.drawImage(this.canvas, 0, 0);
    }

    /** Where a vertex was last drawn, as fractions of the canvas from its top left. */
    spot(vertex) {
        const point = new Vec3(...this.position.subarray(3 * vertex, 3 * vertex + 3)).applyMatrix4(this.mesh.worldMatrix);
        this.camera.project(point);
        return { x: (point.x + 1) / 2, y: (1 - point.y) / 2 };
    }

    /** The vertex of the skin's front whose place in the resting mesh is nearest to x, z (metres). */
    vertexAt(x, z) {
        let [best, least] = [0, Infinity];
        for (let i = 0; i < this.material.length; i++) {
            const [px, py, pz] = [this.place[3 * i], this.place[3 * i + 1], this.place[3 * i + 2]];
            const distance = (px - x) ** 2 + (pz - z) ** 2 + (py > -0.09 || this.material[i] ? 1 : 0) + 1e-4 * (py + 0.2);
            if (distance < least) [best, least] = [i, distance];
        }
        return best;
    }

    deform(weights) {
        const { position, normal, triangles } = this;
        position.set(this.rest);
        for (const [name, weight] of Object.entries(weights)) {
            const shape = this.shapes[name];
            if (!shape || !weight) continue;
            shape.vertices.forEach((vertex, i) => {
                for (let axis = 0; axis < 3; axis++) position[3 * vertex + axis] += weight * shape.moves[3 * i + axis];
            });
        }
        normal.fill(0);
        for (let t = 0; t < triangles.length; t += 3) {
            const [a, b, c] = [3 * triangles[t], 3 * triangles[t + 1], 3 * triangles[t + 2]];
            const [ux, uy, uz] = [position[b] - position[a], position[b + 1] - position[a + 1], position[b + 2] - position[a + 2]];
            const [vx, vy, vz] = [position[c] - position[a], position[c + 1] - position[a + 1], position[c + 2] - position[a + 2]];
            const [nx, ny, nz] = [uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx];
            for (const corner of [a, b, c]) {
                normal[corner] += nx;
                normal[corner + 1] += ny;
                normal[corner + 2] += nz;
            }
        }
        // the shader makes them of length 1; here they only must not vanish between two corners
        for (let i = 0; i < normal.length; i += 3) {
            const length = Math.hypot(normal[i], normal[i + 1], normal[i + 2]) || 1;
            for (let axis = 0; axis < 3; axis++) normal[i + axis] /= length;
        }
        this.geometry.attributes.position.needsUpdate = true;
        this.geometry.attributes.normal.needsUpdate = true;
    }
}
