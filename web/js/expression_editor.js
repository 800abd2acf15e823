// Made by `make page` from page/src. Contains parts of OGL (https://github.com/oframe/ogl, the Unlicense: OGL_LICENSE.txt).
// sources: a4a7d9d9e1f6456d56cf5c8a6221526caeb747f0096d8296ccb7a5b8acff14bb
// what follows: 64aa9cc98d38500e0357b787fa61d445b659b492bfb1d8f20dc14ed2521f2bb5
// src/extension.js
import { app as app8 } from "../../../scripts/app.js";

// src/dom.js
function element(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (name === "class") made.className = value;
    else if (value === true) made.setAttribute(name, "");
    else if (value !== false && value != null) made.setAttribute(name, value);
  }
  made.append(...children);
  return made;
}
function slider({ label, max, step = 0.05, move, done }) {
  const shown = element("output", { class: "fx-value" });
  let moving = false;
  const rest = () => {
    if (!moving) return;
    moving = false;
    done();
  };
  const input = element("input", {
    type: "range",
    min: 0,
    max,
    step,
    "aria-label": label,
    oninput: () => {
      moving = true;
      move(Number(input.value));
    },
    onchange: rest,
    onpointerup: rest,
    onblur: rest
  });
  return {
    root: element("label", { class: "fx-slider" }, element("span", {}, label), input, shown),
    input,
    set(value, disabled = false) {
      input.value = value;
      input.disabled = disabled;
      shown.value = value.toFixed(2);
    }
  };
}
var isUsable = (control) => control.isConnected && !control.disabled && control.tabIndex >= 0 && control.checkVisibility();
function keepFocus(root, act) {
  const held = document.activeElement;
  const controls = root.contains(held) ? [...root.querySelectorAll("button, input")] : [];
  act();
  if (!controls.length || isUsable(document.activeElement)) return;
  const away = (control) => Math.abs(controls.indexOf(control) - controls.indexOf(held));
  controls.filter(isUsable).sort((one, other) => away(one) - away(other))[0]?.focus();
}
function replaceRows(list, rows, otherwise) {
  const place = [...list.children].findIndex((row2) => row2.contains(document.activeElement));
  list.replaceChildren(...rows);
  if (place < 0) return;
  const row = rows[Math.min(place, rows.length - 1)];
  (row?.querySelector("button:enabled") ?? otherwise())?.focus();
}
function rove(list, choose) {
  list.addEventListener("keydown", (event) => {
    const items = [...list.children];
    const at = items.indexOf(document.activeElement);
    const next = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: items.length - 1 }[event.key];
    if (at < 0 || !items[next]) return;
    event.preventDefault();
    items[next].focus();
    choose(items[next]);
  });
}
function chain(target, name, after) {
  const before = target[name];
  target[name] = function(...given) {
    const answer = before?.apply(this, given);
    after(...given);
    return answer;
  };
}

// node_modules/ogl/src/math/functions/Vec3Func.js
function length(a) {
  let x = a[0];
  let y = a[1];
  let z = a[2];
  return Math.sqrt(x * x + y * y + z * z);
}
function copy(out, a) {
  out[0] = a[0];
  out[1] = a[1];
  out[2] = a[2];
  return out;
}
function set(out, x, y, z) {
  out[0] = x;
  out[1] = y;
  out[2] = z;
  return out;
}
function add(out, a, b) {
  out[0] = a[0] + b[0];
  out[1] = a[1] + b[1];
  out[2] = a[2] + b[2];
  return out;
}
function subtract(out, a, b) {
  out[0] = a[0] - b[0];
  out[1] = a[1] - b[1];
  out[2] = a[2] - b[2];
  return out;
}
function multiply(out, a, b) {
  out[0] = a[0] * b[0];
  out[1] = a[1] * b[1];
  out[2] = a[2] * b[2];
  return out;
}
function divide(out, a, b) {
  out[0] = a[0] / b[0];
  out[1] = a[1] / b[1];
  out[2] = a[2] / b[2];
  return out;
}
function scale(out, a, b) {
  out[0] = a[0] * b;
  out[1] = a[1] * b;
  out[2] = a[2] * b;
  return out;
}
function distance(a, b) {
  let x = b[0] - a[0];
  let y = b[1] - a[1];
  let z = b[2] - a[2];
  return Math.sqrt(x * x + y * y + z * z);
}
function squaredDistance(a, b) {
  let x = b[0] - a[0];
  let y = b[1] - a[1];
  let z = b[2] - a[2];
  return x * x + y * y + z * z;
}
function squaredLength(a) {
  let x = a[0];
  let y = a[1];
  let z = a[2];
  return x * x + y * y + z * z;
}
function negate(out, a) {
  out[0] = -a[0];
  out[1] = -a[1];
  out[2] = -a[2];
  return out;
}
function inverse(out, a) {
  out[0] = 1 / a[0];
  out[1] = 1 / a[1];
  out[2] = 1 / a[2];
  return out;
}
function normalize(out, a) {
  let x = a[0];
  let y = a[1];
  let z = a[2];
  let len = x * x + y * y + z * z;
  if (len > 0) {
    len = 1 / Math.sqrt(len);
  }
  out[0] = a[0] * len;
  out[1] = a[1] * len;
  out[2] = a[2] * len;
  return out;
}
function dot(a, b) {
  return a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
}
function cross(out, a, b) {
  let ax = a[0], ay = a[1], az = a[2];
  let bx = b[0], by = b[1], bz = b[2];
  out[0] = ay * bz - az * by;
  out[1] = az * bx - ax * bz;
  out[2] = ax * by - ay * bx;
  return out;
}
function lerp(out, a, b, t) {
  let ax = a[0];
  let ay = a[1];
  let az = a[2];
  out[0] = ax + t * (b[0] - ax);
  out[1] = ay + t * (b[1] - ay);
  out[2] = az + t * (b[2] - az);
  return out;
}
function smoothLerp(out, a, b, decay, dt) {
  const exp = Math.exp(-decay * dt);
  let ax = a[0];
  let ay = a[1];
  let az = a[2];
  out[0] = b[0] + (ax - b[0]) * exp;
  out[1] = b[1] + (ay - b[1]) * exp;
  out[2] = b[2] + (az - b[2]) * exp;
  return out;
}
function transformMat4(out, a, m) {
  let x = a[0], y = a[1], z = a[2];
  let w = m[3] * x + m[7] * y + m[11] * z + m[15];
  w = w || 1;
  out[0] = (m[0] * x + m[4] * y + m[8] * z + m[12]) / w;
  out[1] = (m[1] * x + m[5] * y + m[9] * z + m[13]) / w;
  out[2] = (m[2] * x + m[6] * y + m[10] * z + m[14]) / w;
  return out;
}
function scaleRotateMat4(out, a, m) {
  let x = a[0], y = a[1], z = a[2];
  let w = m[3] * x + m[7] * y + m[11] * z + m[15];
  w = w || 1;
  out[0] = (m[0] * x + m[4] * y + m[8] * z) / w;
  out[1] = (m[1] * x + m[5] * y + m[9] * z) / w;
  out[2] = (m[2] * x + m[6] * y + m[10] * z) / w;
  return out;
}
function transformMat3(out, a, m) {
  let x = a[0], y = a[1], z = a[2];
  out[0] = x * m[0] + y * m[3] + z * m[6];
  out[1] = x * m[1] + y * m[4] + z * m[7];
  out[2] = x * m[2] + y * m[5] + z * m[8];
  return out;
}
function transformQuat(out, a, q) {
  let x = a[0], y = a[1], z = a[2];
  let qx = q[0], qy = q[1], qz = q[2], qw = q[3];
  let uvx = qy * z - qz * y;
  let uvy = qz * x - qx * z;
  let uvz = qx * y - qy * x;
  let uuvx = qy * uvz - qz * uvy;
  let uuvy = qz * uvx - qx * uvz;
  let uuvz = qx * uvy - qy * uvx;
  let w2 = qw * 2;
  uvx *= w2;
  uvy *= w2;
  uvz *= w2;
  uuvx *= 2;
  uuvy *= 2;
  uuvz *= 2;
  out[0] = x + uvx + uuvx;
  out[1] = y + uvy + uuvy;
  out[2] = z + uvz + uuvz;
  return out;
}
var angle = /* @__PURE__ */ (function() {
  const tempA = [0, 0, 0];
  const tempB = [0, 0, 0];
  return function(a, b) {
    copy(tempA, a);
    copy(tempB, b);
    normalize(tempA, tempA);
    normalize(tempB, tempB);
    let cosine = dot(tempA, tempB);
    if (cosine > 1) {
      return 0;
    } else if (cosine < -1) {
      return Math.PI;
    } else {
      return Math.acos(cosine);
    }
  };
})();
function exactEquals(a, b) {
  return a[0] === b[0] && a[1] === b[1] && a[2] === b[2];
}

// node_modules/ogl/src/math/Vec3.js
var Vec3 = class _Vec3 extends Array {
  constructor(x = 0, y = x, z = x) {
    super(x, y, z);
    return this;
  }
  get x() {
    return this[0];
  }
  get y() {
    return this[1];
  }
  get z() {
    return this[2];
  }
  set x(v) {
    this[0] = v;
  }
  set y(v) {
    this[1] = v;
  }
  set z(v) {
    this[2] = v;
  }
  set(x, y = x, z = x) {
    if (x.length) return this.copy(x);
    set(this, x, y, z);
    return this;
  }
  copy(v) {
    copy(this, v);
    return this;
  }
  add(va, vb) {
    if (vb) add(this, va, vb);
    else add(this, this, va);
    return this;
  }
  sub(va, vb) {
    if (vb) subtract(this, va, vb);
    else subtract(this, this, va);
    return this;
  }
  multiply(v) {
    if (v.length) multiply(this, this, v);
    else scale(this, this, v);
    return this;
  }
  divide(v) {
    if (v.length) divide(this, this, v);
    else scale(this, this, 1 / v);
    return this;
  }
  inverse(v = this) {
    inverse(this, v);
    return this;
  }
  // Can't use 'length' as Array.prototype uses it
  len() {
    return length(this);
  }
  distance(v) {
    if (v) return distance(this, v);
    else return length(this);
  }
  squaredLen() {
    return squaredLength(this);
  }
  squaredDistance(v) {
    if (v) return squaredDistance(this, v);
    else return squaredLength(this);
  }
  negate(v = this) {
    negate(this, v);
    return this;
  }
  cross(va, vb) {
    if (vb) cross(this, va, vb);
    else cross(this, this, va);
    return this;
  }
  scale(v) {
    scale(this, this, v);
    return this;
  }
  normalize() {
    normalize(this, this);
    return this;
  }
  dot(v) {
    return dot(this, v);
  }
  equals(v) {
    return exactEquals(this, v);
  }
  applyMatrix3(mat3) {
    transformMat3(this, this, mat3);
    return this;
  }
  applyMatrix4(mat4) {
    transformMat4(this, this, mat4);
    return this;
  }
  scaleRotateMatrix4(mat4) {
    scaleRotateMat4(this, this, mat4);
    return this;
  }
  applyQuaternion(q) {
    transformQuat(this, this, q);
    return this;
  }
  angle(v) {
    return angle(this, v);
  }
  lerp(v, t) {
    lerp(this, this, v, t);
    return this;
  }
  smoothLerp(v, decay, dt) {
    smoothLerp(this, this, v, decay, dt);
    return this;
  }
  clone() {
    return new _Vec3(this[0], this[1], this[2]);
  }
  fromArray(a, o = 0) {
    this[0] = a[o];
    this[1] = a[o + 1];
    this[2] = a[o + 2];
    return this;
  }
  toArray(a = [], o = 0) {
    a[o] = this[0];
    a[o + 1] = this[1];
    a[o + 2] = this[2];
    return a;
  }
  transformDirection(mat4) {
    const x = this[0];
    const y = this[1];
    const z = this[2];
    this[0] = mat4[0] * x + mat4[4] * y + mat4[8] * z;
    this[1] = mat4[1] * x + mat4[5] * y + mat4[9] * z;
    this[2] = mat4[2] * x + mat4[6] * y + mat4[10] * z;
    return this.normalize();
  }
};

// node_modules/ogl/src/core/Geometry.js
var tempVec3 = /* @__PURE__ */ new Vec3();
var ID = 1;
var ATTR_ID = 1;
var isBoundsWarned = false;
var Geometry = class {
  constructor(gl, attributes = {}) {
    if (!gl.canvas) console.error("gl not passed as first argument to Geometry");
    this.gl = gl;
    this.attributes = attributes;
    this.id = ID++;
    this.VAOs = {};
    this.drawRange = { start: 0, count: 0 };
    this.instancedCount = 0;
    this.gl.renderer.bindVertexArray(null);
    this.gl.renderer.currentGeometry = null;
    this.glState = this.gl.renderer.state;
    for (let key in attributes) {
      this.addAttribute(key, attributes[key]);
    }
  }
  addAttribute(key, attr) {
    this.attributes[key] = attr;
    attr.id = ATTR_ID++;
    attr.size = attr.size || 1;
    attr.type = attr.type || (attr.data.constructor === Float32Array ? this.gl.FLOAT : attr.data.constructor === Uint16Array ? this.gl.UNSIGNED_SHORT : this.gl.UNSIGNED_INT);
    attr.target = key === "index" ? this.gl.ELEMENT_ARRAY_BUFFER : this.gl.ARRAY_BUFFER;
    attr.normalized = attr.normalized || false;
    attr.stride = attr.stride || 0;
    attr.offset = attr.offset || 0;
    attr.count = attr.count || (attr.stride ? attr.data.byteLength / attr.stride : attr.data.length / attr.size);
    attr.divisor = attr.instanced || 0;
    attr.needsUpdate = false;
    attr.usage = attr.usage || this.gl.STATIC_DRAW;
    if (!attr.buffer) {
      this.updateAttribute(attr);
    }
    if (attr.divisor) {
      this.isInstanced = true;
      if (this.instancedCount && this.instancedCount !== attr.count * attr.divisor) {
        console.warn("geometry has multiple instanced buffers of different length");
        return this.instancedCount = Math.min(this.instancedCount, attr.count * attr.divisor);
      }
      this.instancedCount = attr.count * attr.divisor;
    } else if (key === "index") {
      this.drawRange.count = attr.count;
    } else if (!this.attributes.index) {
      this.drawRange.count = Math.max(this.drawRange.count, attr.count);
    }
  }
  updateAttribute(attr) {
    const isNewBuffer = !attr.buffer;
    if (isNewBuffer) attr.buffer = this.gl.createBuffer();
    if (this.glState.boundBuffer !== attr.buffer) {
      this.gl.bindBuffer(attr.target, attr.buffer);
      this.glState.boundBuffer = attr.buffer;
    }
    if (isNewBuffer) {
      this.gl.bufferData(attr.target, attr.data, attr.usage);
    } else {
      this.gl.bufferSubData(attr.target, 0, attr.data);
    }
    attr.needsUpdate = false;
  }
  setIndex(value) {
    this.addAttribute("index", value);
  }
  setDrawRange(start, count) {
    this.drawRange.start = start;
    this.drawRange.count = count;
  }
  setInstancedCount(value) {
    this.instancedCount = value;
  }
  createVAO(program) {
    this.VAOs[program.attributeOrder] = this.gl.renderer.createVertexArray();
    this.gl.renderer.bindVertexArray(this.VAOs[program.attributeOrder]);
    this.bindAttributes(program);
  }
  bindAttributes(program) {
    program.attributeLocations.forEach((location, { name, type }) => {
      if (!this.attributes[name]) {
        console.warn(`active attribute ${name} not being supplied`);
        return;
      }
      const attr = this.attributes[name];
      this.gl.bindBuffer(attr.target, attr.buffer);
      this.glState.boundBuffer = attr.buffer;
      let numLoc = 1;
      if (type === 35674) numLoc = 2;
      if (type === 35675) numLoc = 3;
      if (type === 35676) numLoc = 4;
      const size = attr.size / numLoc;
      const stride = numLoc === 1 ? 0 : numLoc * numLoc * 4;
      const offset = numLoc === 1 ? 0 : numLoc * 4;
      for (let i = 0; i < numLoc; i++) {
        this.gl.vertexAttribPointer(location + i, size, attr.type, attr.normalized, attr.stride + stride, attr.offset + i * offset);
        this.gl.enableVertexAttribArray(location + i);
        this.gl.renderer.vertexAttribDivisor(location + i, attr.divisor);
      }
    });
    if (this.attributes.index) this.gl.bindBuffer(this.gl.ELEMENT_ARRAY_BUFFER, this.attributes.index.buffer);
  }
  draw({ program, mode = this.gl.TRIANGLES }) {
    if (this.gl.renderer.currentGeometry !== `${this.id}_${program.attributeOrder}`) {
      if (!this.VAOs[program.attributeOrder]) this.createVAO(program);
      this.gl.renderer.bindVertexArray(this.VAOs[program.attributeOrder]);
      this.gl.renderer.currentGeometry = `${this.id}_${program.attributeOrder}`;
    }
    program.attributeLocations.forEach((location, { name }) => {
      const attr = this.attributes[name];
      if (attr.needsUpdate) this.updateAttribute(attr);
    });
    let indexBytesPerElement = 2;
    if (this.attributes.index?.type === this.gl.UNSIGNED_INT) indexBytesPerElement = 4;
    if (this.isInstanced) {
      if (this.attributes.index) {
        this.gl.renderer.drawElementsInstanced(
          mode,
          this.drawRange.count,
          this.attributes.index.type,
          this.attributes.index.offset + this.drawRange.start * indexBytesPerElement,
          this.instancedCount
        );
      } else {
        this.gl.renderer.drawArraysInstanced(mode, this.drawRange.start, this.drawRange.count, this.instancedCount);
      }
    } else {
      if (this.attributes.index) {
        this.gl.drawElements(
          mode,
          this.drawRange.count,
          this.attributes.index.type,
          this.attributes.index.offset + this.drawRange.start * indexBytesPerElement
        );
      } else {
        this.gl.drawArrays(mode, this.drawRange.start, this.drawRange.count);
      }
    }
  }
  getPosition() {
    const attr = this.attributes.position;
    if (attr.data) return attr;
    if (isBoundsWarned) return;
    console.warn("No position buffer data found to compute bounds");
    return isBoundsWarned = true;
  }
  computeBoundingBox(attr) {
    if (!attr) attr = this.getPosition();
    const array = attr.data;
    const stride = attr.size;
    if (!this.bounds) {
      this.bounds = {
        min: new Vec3(),
        max: new Vec3(),
        center: new Vec3(),
        scale: new Vec3(),
        radius: Infinity
      };
    }
    const min = this.bounds.min;
    const max = this.bounds.max;
    const center = this.bounds.center;
    const scale5 = this.bounds.scale;
    min.set(Infinity);
    max.set(-Infinity);
    for (let i = 0, l = array.length; i < l; i += stride) {
      const x = array[i];
      const y = array[i + 1];
      const z = array[i + 2];
      min.x = Math.min(x, min.x);
      min.y = Math.min(y, min.y);
      min.z = Math.min(z, min.z);
      max.x = Math.max(x, max.x);
      max.y = Math.max(y, max.y);
      max.z = Math.max(z, max.z);
    }
    scale5.sub(max, min);
    center.add(min, max).divide(2);
  }
  computeBoundingSphere(attr) {
    if (!attr) attr = this.getPosition();
    const array = attr.data;
    const stride = attr.size;
    if (!this.bounds) this.computeBoundingBox(attr);
    let maxRadiusSq = 0;
    for (let i = 0, l = array.length; i < l; i += stride) {
      tempVec3.fromArray(array, i);
      maxRadiusSq = Math.max(maxRadiusSq, this.bounds.center.squaredDistance(tempVec3));
    }
    this.bounds.radius = Math.sqrt(maxRadiusSq);
  }
  remove() {
    for (let key in this.VAOs) {
      this.gl.renderer.deleteVertexArray(this.VAOs[key]);
      delete this.VAOs[key];
    }
    for (let key in this.attributes) {
      this.gl.deleteBuffer(this.attributes[key].buffer);
      delete this.attributes[key];
    }
  }
};

// node_modules/ogl/src/core/Program.js
var ID2 = 1;
var arrayCacheF32 = {};
var Program = class {
  constructor(gl, {
    vertex,
    fragment,
    uniforms = {},
    transparent = false,
    cullFace = gl.BACK,
    frontFace = gl.CCW,
    depthTest = true,
    depthWrite = true,
    depthFunc = gl.LEQUAL
  } = {}) {
    if (!gl.canvas) console.error("gl not passed as first argument to Program");
    this.gl = gl;
    this.uniforms = uniforms;
    this.id = ID2++;
    if (!vertex) console.warn("vertex shader not supplied");
    if (!fragment) console.warn("fragment shader not supplied");
    this.transparent = transparent;
    this.cullFace = cullFace;
    this.frontFace = frontFace;
    this.depthTest = depthTest;
    this.depthWrite = depthWrite;
    this.depthFunc = depthFunc;
    this.blendFunc = {};
    this.blendEquation = {};
    this.stencilFunc = {};
    this.stencilOp = {};
    if (this.transparent && !this.blendFunc.src) {
      if (this.gl.renderer.premultipliedAlpha) this.setBlendFunc(this.gl.ONE, this.gl.ONE_MINUS_SRC_ALPHA);
      else this.setBlendFunc(this.gl.SRC_ALPHA, this.gl.ONE_MINUS_SRC_ALPHA);
    }
    this.vertexShader = gl.createShader(gl.VERTEX_SHADER);
    this.fragmentShader = gl.createShader(gl.FRAGMENT_SHADER);
    this.program = gl.createProgram();
    gl.attachShader(this.program, this.vertexShader);
    gl.attachShader(this.program, this.fragmentShader);
    this.setShaders({ vertex, fragment });
  }
  setShaders({ vertex, fragment }) {
    if (vertex) {
      this.gl.shaderSource(this.vertexShader, vertex);
      this.gl.compileShader(this.vertexShader);
      if (this.gl.getShaderInfoLog(this.vertexShader) !== "") {
        console.warn(`${this.gl.getShaderInfoLog(this.vertexShader)}
Vertex Shader
${addLineNumbers(vertex)}`);
      }
    }
    if (fragment) {
      this.gl.shaderSource(this.fragmentShader, fragment);
      this.gl.compileShader(this.fragmentShader);
      if (this.gl.getShaderInfoLog(this.fragmentShader) !== "") {
        console.warn(`${this.gl.getShaderInfoLog(this.fragmentShader)}
Fragment Shader
${addLineNumbers(fragment)}`);
      }
    }
    this.gl.linkProgram(this.program);
    if (!this.gl.getProgramParameter(this.program, this.gl.LINK_STATUS)) {
      return console.warn(this.gl.getProgramInfoLog(this.program));
    }
    this.uniformLocations = /* @__PURE__ */ new Map();
    let numUniforms = this.gl.getProgramParameter(this.program, this.gl.ACTIVE_UNIFORMS);
    for (let uIndex = 0; uIndex < numUniforms; uIndex++) {
      let uniform = this.gl.getActiveUniform(this.program, uIndex);
      this.uniformLocations.set(uniform, this.gl.getUniformLocation(this.program, uniform.name));
      const split = uniform.name.match(/(\w+)/g);
      uniform.uniformName = split[0];
      uniform.nameComponents = split.slice(1);
    }
    this.attributeLocations = /* @__PURE__ */ new Map();
    const locations = [];
    const numAttribs = this.gl.getProgramParameter(this.program, this.gl.ACTIVE_ATTRIBUTES);
    for (let aIndex = 0; aIndex < numAttribs; aIndex++) {
      const attribute = this.gl.getActiveAttrib(this.program, aIndex);
      const location = this.gl.getAttribLocation(this.program, attribute.name);
      if (location === -1) continue;
      locations[location] = attribute.name;
      this.attributeLocations.set(attribute, location);
    }
    this.attributeOrder = locations.join("");
  }
  setBlendFunc(src, dst, srcAlpha, dstAlpha) {
    this.blendFunc.src = src;
    this.blendFunc.dst = dst;
    this.blendFunc.srcAlpha = srcAlpha;
    this.blendFunc.dstAlpha = dstAlpha;
    if (src) this.transparent = true;
  }
  setBlendEquation(modeRGB, modeAlpha) {
    this.blendEquation.modeRGB = modeRGB;
    this.blendEquation.modeAlpha = modeAlpha;
  }
  setStencilFunc(func, ref, mask) {
    this.stencilRef = ref;
    this.stencilFunc.func = func;
    this.stencilFunc.ref = ref;
    this.stencilFunc.mask = mask;
  }
  setStencilOp(stencilFail, depthFail, depthPass) {
    this.stencilOp.stencilFail = stencilFail;
    this.stencilOp.depthFail = depthFail;
    this.stencilOp.depthPass = depthPass;
  }
  applyState() {
    if (this.depthTest) this.gl.renderer.enable(this.gl.DEPTH_TEST);
    else this.gl.renderer.disable(this.gl.DEPTH_TEST);
    if (this.cullFace) this.gl.renderer.enable(this.gl.CULL_FACE);
    else this.gl.renderer.disable(this.gl.CULL_FACE);
    if (this.blendFunc.src) this.gl.renderer.enable(this.gl.BLEND);
    else this.gl.renderer.disable(this.gl.BLEND);
    if (this.cullFace) this.gl.renderer.setCullFace(this.cullFace);
    this.gl.renderer.setFrontFace(this.frontFace);
    this.gl.renderer.setDepthMask(this.depthWrite);
    this.gl.renderer.setDepthFunc(this.depthFunc);
    if (this.blendFunc.src) this.gl.renderer.setBlendFunc(this.blendFunc.src, this.blendFunc.dst, this.blendFunc.srcAlpha, this.blendFunc.dstAlpha);
    this.gl.renderer.setBlendEquation(this.blendEquation.modeRGB, this.blendEquation.modeAlpha);
    if (this.stencilFunc.func || this.stencilOp.stencilFail) this.gl.renderer.enable(this.gl.STENCIL_TEST);
    else this.gl.renderer.disable(this.gl.STENCIL_TEST);
    this.gl.renderer.setStencilFunc(this.stencilFunc.func, this.stencilFunc.ref, this.stencilFunc.mask);
    this.gl.renderer.setStencilOp(this.stencilOp.stencilFail, this.stencilOp.depthFail, this.stencilOp.depthPass);
  }
  use({ flipFaces = false } = {}) {
    let textureUnit = -1;
    const programActive = this.gl.renderer.state.currentProgram === this.id;
    if (!programActive) {
      this.gl.useProgram(this.program);
      this.gl.renderer.state.currentProgram = this.id;
    }
    this.uniformLocations.forEach((location, activeUniform) => {
      let uniform = this.uniforms[activeUniform.uniformName];
      for (const component of activeUniform.nameComponents) {
        if (!uniform) break;
        if (component in uniform) {
          uniform = uniform[component];
        } else if (Array.isArray(uniform.value)) {
          break;
        } else {
          uniform = void 0;
          break;
        }
      }
      if (!uniform) {
        return warn(`Active uniform ${activeUniform.name} has not been supplied`);
      }
      if (uniform && uniform.value === void 0) {
        return warn(`${activeUniform.name} uniform is missing a value parameter`);
      }
      if (uniform.value.texture) {
        textureUnit = textureUnit + 1;
        uniform.value.update(textureUnit);
        return setUniform(this.gl, activeUniform.type, location, textureUnit);
      }
      if (uniform.value.length && uniform.value[0].texture) {
        const textureUnits = [];
        uniform.value.forEach((value) => {
          textureUnit = textureUnit + 1;
          value.update(textureUnit);
          textureUnits.push(textureUnit);
        });
        return setUniform(this.gl, activeUniform.type, location, textureUnits);
      }
      setUniform(this.gl, activeUniform.type, location, uniform.value);
    });
    this.applyState();
    if (flipFaces) this.gl.renderer.setFrontFace(this.frontFace === this.gl.CCW ? this.gl.CW : this.gl.CCW);
  }
  remove() {
    this.gl.deleteProgram(this.program);
  }
};
function setUniform(gl, type, location, value) {
  value = value.length ? flatten(value) : value;
  const setValue = gl.renderer.state.uniformLocations.get(location);
  if (value.length) {
    if (setValue === void 0 || setValue.length !== value.length) {
      gl.renderer.state.uniformLocations.set(location, value.slice(0));
    } else {
      if (arraysEqual(setValue, value)) return;
      setValue.set ? setValue.set(value) : setArray(setValue, value);
      gl.renderer.state.uniformLocations.set(location, setValue);
    }
  } else {
    if (setValue === value) return;
    gl.renderer.state.uniformLocations.set(location, value);
  }
  switch (type) {
    case 5126:
      return value.length ? gl.uniform1fv(location, value) : gl.uniform1f(location, value);
    // FLOAT
    case 35664:
      return gl.uniform2fv(location, value);
    // FLOAT_VEC2
    case 35665:
      return gl.uniform3fv(location, value);
    // FLOAT_VEC3
    case 35666:
      return gl.uniform4fv(location, value);
    // FLOAT_VEC4
    case 35670:
    // BOOL
    case 5124:
    // INT
    case 35678:
    // SAMPLER_2D
    case 36306:
    // U_SAMPLER_2D
    case 35680:
    // SAMPLER_CUBE
    case 36289:
      return value.length ? gl.uniform1iv(location, value) : gl.uniform1i(location, value);
    // SAMPLER_CUBE
    case 35671:
    // BOOL_VEC2
    case 35667:
      return gl.uniform2iv(location, value);
    // INT_VEC2
    case 35672:
    // BOOL_VEC3
    case 35668:
      return gl.uniform3iv(location, value);
    // INT_VEC3
    case 35673:
    // BOOL_VEC4
    case 35669:
      return gl.uniform4iv(location, value);
    // INT_VEC4
    case 35674:
      return gl.uniformMatrix2fv(location, false, value);
    // FLOAT_MAT2
    case 35675:
      return gl.uniformMatrix3fv(location, false, value);
    // FLOAT_MAT3
    case 35676:
      return gl.uniformMatrix4fv(location, false, value);
  }
}
function addLineNumbers(string) {
  let lines = string.split("\n");
  for (let i = 0; i < lines.length; i++) {
    lines[i] = i + 1 + ": " + lines[i];
  }
  return lines.join("\n");
}
function flatten(a) {
  const arrayLen = a.length;
  const valueLen = a[0].length;
  if (valueLen === void 0) return a;
  const length3 = arrayLen * valueLen;
  let value = arrayCacheF32[length3];
  if (!value) arrayCacheF32[length3] = value = new Float32Array(length3);
  for (let i = 0; i < arrayLen; i++) value.set(a[i], i * valueLen);
  return value;
}
function arraysEqual(a, b) {
  if (a.length !== b.length) return false;
  for (let i = 0, l = a.length; i < l; i++) {
    if (a[i] !== b[i]) return false;
  }
  return true;
}
function setArray(a, b) {
  for (let i = 0, l = a.length; i < l; i++) {
    a[i] = b[i];
  }
}
var warnCount = 0;
function warn(message) {
  if (warnCount > 100) return;
  console.warn(message);
  warnCount++;
  if (warnCount > 100) console.warn("More than 100 program warnings - stopping logs.");
}

// node_modules/ogl/src/core/Renderer.js
var tempVec32 = /* @__PURE__ */ new Vec3();
var ID3 = 1;
var Renderer = class {
  constructor({
    canvas = document.createElement("canvas"),
    width = 300,
    height = 150,
    dpr = 1,
    alpha = false,
    depth = true,
    stencil = false,
    antialias = false,
    premultipliedAlpha = false,
    preserveDrawingBuffer = false,
    powerPreference = "default",
    autoClear = true,
    webgl = 2
  } = {}) {
    const attributes = { alpha, depth, stencil, antialias, premultipliedAlpha, preserveDrawingBuffer, powerPreference };
    this.dpr = dpr;
    this.alpha = alpha;
    this.color = true;
    this.depth = depth;
    this.stencil = stencil;
    this.premultipliedAlpha = premultipliedAlpha;
    this.autoClear = autoClear;
    this.id = ID3++;
    if (webgl === 2) this.gl = canvas.getContext("webgl2", attributes);
    this.isWebgl2 = !!this.gl;
    if (!this.gl) this.gl = canvas.getContext("webgl", attributes);
    if (!this.gl) console.error("unable to create webgl context");
    this.gl.renderer = this;
    this.setSize(width, height);
    this.state = {};
    this.state.blendFunc = { src: this.gl.ONE, dst: this.gl.ZERO };
    this.state.blendEquation = { modeRGB: this.gl.FUNC_ADD };
    this.state.cullFace = false;
    this.state.frontFace = this.gl.CCW;
    this.state.depthMask = true;
    this.state.depthFunc = this.gl.LEQUAL;
    this.state.premultiplyAlpha = false;
    this.state.flipY = false;
    this.state.unpackAlignment = 4;
    this.state.framebuffer = null;
    this.state.viewport = { x: 0, y: 0, width: null, height: null };
    this.state.textureUnits = [];
    this.state.activeTextureUnit = 0;
    this.state.boundBuffer = null;
    this.state.uniformLocations = /* @__PURE__ */ new Map();
    this.state.currentProgram = null;
    this.extensions = {};
    if (this.isWebgl2) {
      this.getExtension("EXT_color_buffer_float");
      this.getExtension("OES_texture_float_linear");
    } else {
      this.getExtension("OES_texture_float");
      this.getExtension("OES_texture_float_linear");
      this.getExtension("OES_texture_half_float");
      this.getExtension("OES_texture_half_float_linear");
      this.getExtension("OES_element_index_uint");
      this.getExtension("OES_standard_derivatives");
      this.getExtension("EXT_sRGB");
      this.getExtension("WEBGL_depth_texture");
      this.getExtension("WEBGL_draw_buffers");
    }
    this.getExtension("WEBGL_compressed_texture_astc");
    this.getExtension("EXT_texture_compression_bptc");
    this.getExtension("WEBGL_compressed_texture_s3tc");
    this.getExtension("WEBGL_compressed_texture_etc1");
    this.getExtension("WEBGL_compressed_texture_pvrtc");
    this.getExtension("WEBKIT_WEBGL_compressed_texture_pvrtc");
    this.vertexAttribDivisor = this.getExtension("ANGLE_instanced_arrays", "vertexAttribDivisor", "vertexAttribDivisorANGLE");
    this.drawArraysInstanced = this.getExtension("ANGLE_instanced_arrays", "drawArraysInstanced", "drawArraysInstancedANGLE");
    this.drawElementsInstanced = this.getExtension("ANGLE_instanced_arrays", "drawElementsInstanced", "drawElementsInstancedANGLE");
    this.createVertexArray = this.getExtension("OES_vertex_array_object", "createVertexArray", "createVertexArrayOES");
    this.bindVertexArray = this.getExtension("OES_vertex_array_object", "bindVertexArray", "bindVertexArrayOES");
    this.deleteVertexArray = this.getExtension("OES_vertex_array_object", "deleteVertexArray", "deleteVertexArrayOES");
    this.drawBuffers = this.getExtension("WEBGL_draw_buffers", "drawBuffers", "drawBuffersWEBGL");
    this.parameters = {};
    this.parameters.maxTextureUnits = this.gl.getParameter(this.gl.MAX_COMBINED_TEXTURE_IMAGE_UNITS);
    this.parameters.maxAnisotropy = this.getExtension("EXT_texture_filter_anisotropic") ? this.gl.getParameter(this.getExtension("EXT_texture_filter_anisotropic").MAX_TEXTURE_MAX_ANISOTROPY_EXT) : 0;
  }
  setSize(width, height) {
    this.width = width;
    this.height = height;
    this.gl.canvas.width = width * this.dpr;
    this.gl.canvas.height = height * this.dpr;
    if (!this.gl.canvas.style) return;
    Object.assign(this.gl.canvas.style, {
      width: width + "px",
      height: height + "px"
    });
  }
  setViewport(width, height, x = 0, y = 0) {
    if (this.state.viewport.width === width && this.state.viewport.height === height) return;
    this.state.viewport.width = width;
    this.state.viewport.height = height;
    this.state.viewport.x = x;
    this.state.viewport.y = y;
    this.gl.viewport(x, y, width, height);
  }
  setScissor(width, height, x = 0, y = 0) {
    this.gl.scissor(x, y, width, height);
  }
  enable(id) {
    if (this.state[id] === true) return;
    this.gl.enable(id);
    this.state[id] = true;
  }
  disable(id) {
    if (this.state[id] === false) return;
    this.gl.disable(id);
    this.state[id] = false;
  }
  setBlendFunc(src, dst, srcAlpha, dstAlpha) {
    if (this.state.blendFunc.src === src && this.state.blendFunc.dst === dst && this.state.blendFunc.srcAlpha === srcAlpha && this.state.blendFunc.dstAlpha === dstAlpha)
      return;
    this.state.blendFunc.src = src;
    this.state.blendFunc.dst = dst;
    this.state.blendFunc.srcAlpha = srcAlpha;
    this.state.blendFunc.dstAlpha = dstAlpha;
    if (srcAlpha !== void 0) this.gl.blendFuncSeparate(src, dst, srcAlpha, dstAlpha);
    else this.gl.blendFunc(src, dst);
  }
  setBlendEquation(modeRGB, modeAlpha) {
    modeRGB = modeRGB || this.gl.FUNC_ADD;
    if (this.state.blendEquation.modeRGB === modeRGB && this.state.blendEquation.modeAlpha === modeAlpha) return;
    this.state.blendEquation.modeRGB = modeRGB;
    this.state.blendEquation.modeAlpha = modeAlpha;
    if (modeAlpha !== void 0) this.gl.blendEquationSeparate(modeRGB, modeAlpha);
    else this.gl.blendEquation(modeRGB);
  }
  setCullFace(value) {
    if (this.state.cullFace === value) return;
    this.state.cullFace = value;
    this.gl.cullFace(value);
  }
  setFrontFace(value) {
    if (this.state.frontFace === value) return;
    this.state.frontFace = value;
    this.gl.frontFace(value);
  }
  setDepthMask(value) {
    if (this.state.depthMask === value) return;
    this.state.depthMask = value;
    this.gl.depthMask(value);
  }
  setDepthFunc(value) {
    if (this.state.depthFunc === value) return;
    this.state.depthFunc = value;
    this.gl.depthFunc(value);
  }
  setStencilMask(value) {
    if (this.state.stencilMask === value) return;
    this.state.stencilMask = value;
    this.gl.stencilMask(value);
  }
  setStencilFunc(func, ref, mask) {
    if (this.state.stencilFunc === func && this.state.stencilRef === ref && this.state.stencilFuncMask === mask) return;
    this.state.stencilFunc = func || this.gl.ALWAYS;
    this.state.stencilRef = ref || 0;
    this.state.stencilFuncMask = mask || 0;
    this.gl.stencilFunc(func || this.gl.ALWAYS, ref || 0, mask || 0);
  }
  setStencilOp(stencilFail, depthFail, depthPass) {
    if (this.state.stencilFail === stencilFail && this.state.stencilDepthFail === depthFail && this.state.stencilDepthPass === depthPass) return;
    this.state.stencilFail = stencilFail;
    this.state.stencilDepthFail = depthFail;
    this.state.stencilDepthPass = depthPass;
    this.gl.stencilOp(stencilFail, depthFail, depthPass);
  }
  activeTexture(value) {
    if (this.state.activeTextureUnit === value) return;
    this.state.activeTextureUnit = value;
    this.gl.activeTexture(this.gl.TEXTURE0 + value);
  }
  bindFramebuffer({ target = this.gl.FRAMEBUFFER, buffer = null } = {}) {
    if (this.state.framebuffer === buffer) return;
    this.state.framebuffer = buffer;
    this.gl.bindFramebuffer(target, buffer);
  }
  getExtension(extension, webgl2Func, extFunc) {
    if (webgl2Func && this.gl[webgl2Func]) return this.gl[webgl2Func].bind(this.gl);
    if (!this.extensions[extension]) {
      this.extensions[extension] = this.gl.getExtension(extension);
    }
    if (!webgl2Func) return this.extensions[extension];
    if (!this.extensions[extension]) return null;
    return this.extensions[extension][extFunc].bind(this.extensions[extension]);
  }
  sortOpaque(a, b) {
    if (a.renderOrder !== b.renderOrder) {
      return a.renderOrder - b.renderOrder;
    } else if (a.program.id !== b.program.id) {
      return a.program.id - b.program.id;
    } else if (a.zDepth !== b.zDepth) {
      return a.zDepth - b.zDepth;
    } else {
      return b.id - a.id;
    }
  }
  sortTransparent(a, b) {
    if (a.renderOrder !== b.renderOrder) {
      return a.renderOrder - b.renderOrder;
    }
    if (a.zDepth !== b.zDepth) {
      return b.zDepth - a.zDepth;
    } else {
      return b.id - a.id;
    }
  }
  sortUI(a, b) {
    if (a.renderOrder !== b.renderOrder) {
      return a.renderOrder - b.renderOrder;
    } else if (a.program.id !== b.program.id) {
      return a.program.id - b.program.id;
    } else {
      return b.id - a.id;
    }
  }
  getRenderList({ scene, camera, frustumCull, sort }) {
    let renderList = [];
    if (camera && frustumCull) camera.updateFrustum();
    scene.traverse((node) => {
      if (!node.visible) return true;
      if (!node.draw) return;
      if (frustumCull && node.frustumCulled && camera) {
        if (!camera.frustumIntersectsMesh(node)) return;
      }
      renderList.push(node);
    });
    if (sort) {
      const opaque = [];
      const transparent = [];
      const ui = [];
      renderList.forEach((node) => {
        if (!node.program.transparent) {
          opaque.push(node);
        } else if (node.program.depthTest) {
          transparent.push(node);
        } else {
          ui.push(node);
        }
        node.zDepth = 0;
        if (node.renderOrder !== 0 || !node.program.depthTest || !camera) return;
        node.worldMatrix.getTranslation(tempVec32);
        tempVec32.applyMatrix4(camera.projectionViewMatrix);
        node.zDepth = tempVec32.z;
      });
      opaque.sort(this.sortOpaque);
      transparent.sort(this.sortTransparent);
      ui.sort(this.sortUI);
      renderList = opaque.concat(transparent, ui);
    }
    return renderList;
  }
  render({ scene, camera, target = null, update = true, sort = true, frustumCull = true, clear }) {
    if (target === null) {
      this.bindFramebuffer();
      this.setViewport(this.width * this.dpr, this.height * this.dpr);
    } else {
      this.bindFramebuffer(target);
      this.setViewport(target.width, target.height);
    }
    if (clear || this.autoClear && clear !== false) {
      if (this.depth && (!target || target.depth)) {
        this.enable(this.gl.DEPTH_TEST);
        this.setDepthMask(true);
      }
      if (this.stencil || (!target || target.stencil)) {
        this.enable(this.gl.STENCIL_TEST);
        this.setStencilMask(255);
      }
      this.gl.clear(
        (this.color ? this.gl.COLOR_BUFFER_BIT : 0) | (this.depth ? this.gl.DEPTH_BUFFER_BIT : 0) | (this.stencil ? this.gl.STENCIL_BUFFER_BIT : 0)
      );
    }
    if (update) scene.updateMatrixWorld();
    if (camera) camera.updateMatrixWorld();
    const renderList = this.getRenderList({ scene, camera, frustumCull, sort });
    renderList.forEach((node) => {
      node.draw({ camera });
    });
  }
};

// node_modules/ogl/src/math/functions/Vec4Func.js
function copy2(out, a) {
  out[0] = a[0];
  out[1] = a[1];
  out[2] = a[2];
  out[3] = a[3];
  return out;
}
function set2(out, x, y, z, w) {
  out[0] = x;
  out[1] = y;
  out[2] = z;
  out[3] = w;
  return out;
}
function normalize2(out, a) {
  let x = a[0];
  let y = a[1];
  let z = a[2];
  let w = a[3];
  let len = x * x + y * y + z * z + w * w;
  if (len > 0) {
    len = 1 / Math.sqrt(len);
  }
  out[0] = x * len;
  out[1] = y * len;
  out[2] = z * len;
  out[3] = w * len;
  return out;
}
function dot2(a, b) {
  return a[0] * b[0] + a[1] * b[1] + a[2] * b[2] + a[3] * b[3];
}

// node_modules/ogl/src/math/functions/QuatFunc.js
function identity(out) {
  out[0] = 0;
  out[1] = 0;
  out[2] = 0;
  out[3] = 1;
  return out;
}
function setAxisAngle(out, axis, rad) {
  rad = rad * 0.5;
  let s = Math.sin(rad);
  out[0] = s * axis[0];
  out[1] = s * axis[1];
  out[2] = s * axis[2];
  out[3] = Math.cos(rad);
  return out;
}
function multiply2(out, a, b) {
  let ax = a[0], ay = a[1], az = a[2], aw = a[3];
  let bx = b[0], by = b[1], bz = b[2], bw = b[3];
  out[0] = ax * bw + aw * bx + ay * bz - az * by;
  out[1] = ay * bw + aw * by + az * bx - ax * bz;
  out[2] = az * bw + aw * bz + ax * by - ay * bx;
  out[3] = aw * bw - ax * bx - ay * by - az * bz;
  return out;
}
function rotateX(out, a, rad) {
  rad *= 0.5;
  let ax = a[0], ay = a[1], az = a[2], aw = a[3];
  let bx = Math.sin(rad), bw = Math.cos(rad);
  out[0] = ax * bw + aw * bx;
  out[1] = ay * bw + az * bx;
  out[2] = az * bw - ay * bx;
  out[3] = aw * bw - ax * bx;
  return out;
}
function rotateY(out, a, rad) {
  rad *= 0.5;
  let ax = a[0], ay = a[1], az = a[2], aw = a[3];
  let by = Math.sin(rad), bw = Math.cos(rad);
  out[0] = ax * bw - az * by;
  out[1] = ay * bw + aw * by;
  out[2] = az * bw + ax * by;
  out[3] = aw * bw - ay * by;
  return out;
}
function rotateZ(out, a, rad) {
  rad *= 0.5;
  let ax = a[0], ay = a[1], az = a[2], aw = a[3];
  let bz = Math.sin(rad), bw = Math.cos(rad);
  out[0] = ax * bw + ay * bz;
  out[1] = ay * bw - ax * bz;
  out[2] = az * bw + aw * bz;
  out[3] = aw * bw - az * bz;
  return out;
}
function slerp(out, a, b, t) {
  let ax = a[0], ay = a[1], az = a[2], aw = a[3];
  let bx = b[0], by = b[1], bz = b[2], bw = b[3];
  let omega, cosom, sinom, scale0, scale1;
  cosom = ax * bx + ay * by + az * bz + aw * bw;
  if (cosom < 0) {
    cosom = -cosom;
    bx = -bx;
    by = -by;
    bz = -bz;
    bw = -bw;
  }
  if (1 - cosom > 1e-6) {
    omega = Math.acos(cosom);
    sinom = Math.sin(omega);
    scale0 = Math.sin((1 - t) * omega) / sinom;
    scale1 = Math.sin(t * omega) / sinom;
  } else {
    scale0 = 1 - t;
    scale1 = t;
  }
  out[0] = scale0 * ax + scale1 * bx;
  out[1] = scale0 * ay + scale1 * by;
  out[2] = scale0 * az + scale1 * bz;
  out[3] = scale0 * aw + scale1 * bw;
  return out;
}
function invert(out, a) {
  let a0 = a[0], a1 = a[1], a2 = a[2], a3 = a[3];
  let dot4 = a0 * a0 + a1 * a1 + a2 * a2 + a3 * a3;
  let invDot = dot4 ? 1 / dot4 : 0;
  out[0] = -a0 * invDot;
  out[1] = -a1 * invDot;
  out[2] = -a2 * invDot;
  out[3] = a3 * invDot;
  return out;
}
function conjugate(out, a) {
  out[0] = -a[0];
  out[1] = -a[1];
  out[2] = -a[2];
  out[3] = a[3];
  return out;
}
function fromMat3(out, m) {
  let fTrace = m[0] + m[4] + m[8];
  let fRoot;
  if (fTrace > 0) {
    fRoot = Math.sqrt(fTrace + 1);
    out[3] = 0.5 * fRoot;
    fRoot = 0.5 / fRoot;
    out[0] = (m[5] - m[7]) * fRoot;
    out[1] = (m[6] - m[2]) * fRoot;
    out[2] = (m[1] - m[3]) * fRoot;
  } else {
    let i = 0;
    if (m[4] > m[0]) i = 1;
    if (m[8] > m[i * 3 + i]) i = 2;
    let j = (i + 1) % 3;
    let k = (i + 2) % 3;
    fRoot = Math.sqrt(m[i * 3 + i] - m[j * 3 + j] - m[k * 3 + k] + 1);
    out[i] = 0.5 * fRoot;
    fRoot = 0.5 / fRoot;
    out[3] = (m[j * 3 + k] - m[k * 3 + j]) * fRoot;
    out[j] = (m[j * 3 + i] + m[i * 3 + j]) * fRoot;
    out[k] = (m[k * 3 + i] + m[i * 3 + k]) * fRoot;
  }
  return out;
}
function fromEuler(out, euler, order = "YXZ") {
  let sx = Math.sin(euler[0] * 0.5);
  let cx = Math.cos(euler[0] * 0.5);
  let sy = Math.sin(euler[1] * 0.5);
  let cy = Math.cos(euler[1] * 0.5);
  let sz = Math.sin(euler[2] * 0.5);
  let cz = Math.cos(euler[2] * 0.5);
  if (order === "XYZ") {
    out[0] = sx * cy * cz + cx * sy * sz;
    out[1] = cx * sy * cz - sx * cy * sz;
    out[2] = cx * cy * sz + sx * sy * cz;
    out[3] = cx * cy * cz - sx * sy * sz;
  } else if (order === "YXZ") {
    out[0] = sx * cy * cz + cx * sy * sz;
    out[1] = cx * sy * cz - sx * cy * sz;
    out[2] = cx * cy * sz - sx * sy * cz;
    out[3] = cx * cy * cz + sx * sy * sz;
  } else if (order === "ZXY") {
    out[0] = sx * cy * cz - cx * sy * sz;
    out[1] = cx * sy * cz + sx * cy * sz;
    out[2] = cx * cy * sz + sx * sy * cz;
    out[3] = cx * cy * cz - sx * sy * sz;
  } else if (order === "ZYX") {
    out[0] = sx * cy * cz - cx * sy * sz;
    out[1] = cx * sy * cz + sx * cy * sz;
    out[2] = cx * cy * sz - sx * sy * cz;
    out[3] = cx * cy * cz + sx * sy * sz;
  } else if (order === "YZX") {
    out[0] = sx * cy * cz + cx * sy * sz;
    out[1] = cx * sy * cz + sx * cy * sz;
    out[2] = cx * cy * sz - sx * sy * cz;
    out[3] = cx * cy * cz - sx * sy * sz;
  } else if (order === "XZY") {
    out[0] = sx * cy * cz - cx * sy * sz;
    out[1] = cx * sy * cz - sx * cy * sz;
    out[2] = cx * cy * sz + sx * sy * cz;
    out[3] = cx * cy * cz + sx * sy * sz;
  }
  return out;
}
var copy3 = copy2;
var set3 = set2;
var dot3 = dot2;
var normalize3 = normalize2;

// node_modules/ogl/src/math/Quat.js
var Quat = class extends Array {
  constructor(x = 0, y = 0, z = 0, w = 1) {
    super(x, y, z, w);
    this.onChange = () => {
    };
    this._target = this;
    const triggerProps = ["0", "1", "2", "3"];
    return new Proxy(this, {
      set(target, property) {
        const success = Reflect.set(...arguments);
        if (success && triggerProps.includes(property)) target.onChange();
        return success;
      }
    });
  }
  get x() {
    return this[0];
  }
  get y() {
    return this[1];
  }
  get z() {
    return this[2];
  }
  get w() {
    return this[3];
  }
  set x(v) {
    this._target[0] = v;
    this.onChange();
  }
  set y(v) {
    this._target[1] = v;
    this.onChange();
  }
  set z(v) {
    this._target[2] = v;
    this.onChange();
  }
  set w(v) {
    this._target[3] = v;
    this.onChange();
  }
  identity() {
    identity(this._target);
    this.onChange();
    return this;
  }
  set(x, y, z, w) {
    if (x.length) return this.copy(x);
    set3(this._target, x, y, z, w);
    this.onChange();
    return this;
  }
  rotateX(a) {
    rotateX(this._target, this._target, a);
    this.onChange();
    return this;
  }
  rotateY(a) {
    rotateY(this._target, this._target, a);
    this.onChange();
    return this;
  }
  rotateZ(a) {
    rotateZ(this._target, this._target, a);
    this.onChange();
    return this;
  }
  inverse(q = this._target) {
    invert(this._target, q);
    this.onChange();
    return this;
  }
  conjugate(q = this._target) {
    conjugate(this._target, q);
    this.onChange();
    return this;
  }
  copy(q) {
    copy3(this._target, q);
    this.onChange();
    return this;
  }
  normalize(q = this._target) {
    normalize3(this._target, q);
    this.onChange();
    return this;
  }
  multiply(qA, qB) {
    if (qB) {
      multiply2(this._target, qA, qB);
    } else {
      multiply2(this._target, this._target, qA);
    }
    this.onChange();
    return this;
  }
  dot(v) {
    return dot3(this._target, v);
  }
  fromMatrix3(matrix3) {
    fromMat3(this._target, matrix3);
    this.onChange();
    return this;
  }
  fromEuler(euler, isInternal) {
    fromEuler(this._target, euler, euler.order);
    if (!isInternal) this.onChange();
    return this;
  }
  fromAxisAngle(axis, a) {
    setAxisAngle(this._target, axis, a);
    this.onChange();
    return this;
  }
  slerp(q, t) {
    slerp(this._target, this._target, q, t);
    this.onChange();
    return this;
  }
  fromArray(a, o = 0) {
    this._target[0] = a[o];
    this._target[1] = a[o + 1];
    this._target[2] = a[o + 2];
    this._target[3] = a[o + 3];
    this.onChange();
    return this;
  }
  toArray(a = [], o = 0) {
    a[o] = this[0];
    a[o + 1] = this[1];
    a[o + 2] = this[2];
    a[o + 3] = this[3];
    return a;
  }
};

// node_modules/ogl/src/math/functions/Mat4Func.js
var EPSILON = 1e-6;
function copy4(out, a) {
  out[0] = a[0];
  out[1] = a[1];
  out[2] = a[2];
  out[3] = a[3];
  out[4] = a[4];
  out[5] = a[5];
  out[6] = a[6];
  out[7] = a[7];
  out[8] = a[8];
  out[9] = a[9];
  out[10] = a[10];
  out[11] = a[11];
  out[12] = a[12];
  out[13] = a[13];
  out[14] = a[14];
  out[15] = a[15];
  return out;
}
function set4(out, m00, m01, m02, m03, m10, m11, m12, m13, m20, m21, m22, m23, m30, m31, m32, m33) {
  out[0] = m00;
  out[1] = m01;
  out[2] = m02;
  out[3] = m03;
  out[4] = m10;
  out[5] = m11;
  out[6] = m12;
  out[7] = m13;
  out[8] = m20;
  out[9] = m21;
  out[10] = m22;
  out[11] = m23;
  out[12] = m30;
  out[13] = m31;
  out[14] = m32;
  out[15] = m33;
  return out;
}
function identity2(out) {
  out[0] = 1;
  out[1] = 0;
  out[2] = 0;
  out[3] = 0;
  out[4] = 0;
  out[5] = 1;
  out[6] = 0;
  out[7] = 0;
  out[8] = 0;
  out[9] = 0;
  out[10] = 1;
  out[11] = 0;
  out[12] = 0;
  out[13] = 0;
  out[14] = 0;
  out[15] = 1;
  return out;
}
function invert2(out, a) {
  let a00 = a[0], a01 = a[1], a02 = a[2], a03 = a[3];
  let a10 = a[4], a11 = a[5], a12 = a[6], a13 = a[7];
  let a20 = a[8], a21 = a[9], a22 = a[10], a23 = a[11];
  let a30 = a[12], a31 = a[13], a32 = a[14], a33 = a[15];
  let b00 = a00 * a11 - a01 * a10;
  let b01 = a00 * a12 - a02 * a10;
  let b02 = a00 * a13 - a03 * a10;
  let b03 = a01 * a12 - a02 * a11;
  let b04 = a01 * a13 - a03 * a11;
  let b05 = a02 * a13 - a03 * a12;
  let b06 = a20 * a31 - a21 * a30;
  let b07 = a20 * a32 - a22 * a30;
  let b08 = a20 * a33 - a23 * a30;
  let b09 = a21 * a32 - a22 * a31;
  let b10 = a21 * a33 - a23 * a31;
  let b11 = a22 * a33 - a23 * a32;
  let det = b00 * b11 - b01 * b10 + b02 * b09 + b03 * b08 - b04 * b07 + b05 * b06;
  if (!det) {
    return null;
  }
  det = 1 / det;
  out[0] = (a11 * b11 - a12 * b10 + a13 * b09) * det;
  out[1] = (a02 * b10 - a01 * b11 - a03 * b09) * det;
  out[2] = (a31 * b05 - a32 * b04 + a33 * b03) * det;
  out[3] = (a22 * b04 - a21 * b05 - a23 * b03) * det;
  out[4] = (a12 * b08 - a10 * b11 - a13 * b07) * det;
  out[5] = (a00 * b11 - a02 * b08 + a03 * b07) * det;
  out[6] = (a32 * b02 - a30 * b05 - a33 * b01) * det;
  out[7] = (a20 * b05 - a22 * b02 + a23 * b01) * det;
  out[8] = (a10 * b10 - a11 * b08 + a13 * b06) * det;
  out[9] = (a01 * b08 - a00 * b10 - a03 * b06) * det;
  out[10] = (a30 * b04 - a31 * b02 + a33 * b00) * det;
  out[11] = (a21 * b02 - a20 * b04 - a23 * b00) * det;
  out[12] = (a11 * b07 - a10 * b09 - a12 * b06) * det;
  out[13] = (a00 * b09 - a01 * b07 + a02 * b06) * det;
  out[14] = (a31 * b01 - a30 * b03 - a32 * b00) * det;
  out[15] = (a20 * b03 - a21 * b01 + a22 * b00) * det;
  return out;
}
function determinant(a) {
  let a00 = a[0], a01 = a[1], a02 = a[2], a03 = a[3];
  let a10 = a[4], a11 = a[5], a12 = a[6], a13 = a[7];
  let a20 = a[8], a21 = a[9], a22 = a[10], a23 = a[11];
  let a30 = a[12], a31 = a[13], a32 = a[14], a33 = a[15];
  let b00 = a00 * a11 - a01 * a10;
  let b01 = a00 * a12 - a02 * a10;
  let b02 = a00 * a13 - a03 * a10;
  let b03 = a01 * a12 - a02 * a11;
  let b04 = a01 * a13 - a03 * a11;
  let b05 = a02 * a13 - a03 * a12;
  let b06 = a20 * a31 - a21 * a30;
  let b07 = a20 * a32 - a22 * a30;
  let b08 = a20 * a33 - a23 * a30;
  let b09 = a21 * a32 - a22 * a31;
  let b10 = a21 * a33 - a23 * a31;
  let b11 = a22 * a33 - a23 * a32;
  return b00 * b11 - b01 * b10 + b02 * b09 + b03 * b08 - b04 * b07 + b05 * b06;
}
function multiply3(out, a, b) {
  let a00 = a[0], a01 = a[1], a02 = a[2], a03 = a[3];
  let a10 = a[4], a11 = a[5], a12 = a[6], a13 = a[7];
  let a20 = a[8], a21 = a[9], a22 = a[10], a23 = a[11];
  let a30 = a[12], a31 = a[13], a32 = a[14], a33 = a[15];
  let b0 = b[0], b1 = b[1], b2 = b[2], b3 = b[3];
  out[0] = b0 * a00 + b1 * a10 + b2 * a20 + b3 * a30;
  out[1] = b0 * a01 + b1 * a11 + b2 * a21 + b3 * a31;
  out[2] = b0 * a02 + b1 * a12 + b2 * a22 + b3 * a32;
  out[3] = b0 * a03 + b1 * a13 + b2 * a23 + b3 * a33;
  b0 = b[4];
  b1 = b[5];
  b2 = b[6];
  b3 = b[7];
  out[4] = b0 * a00 + b1 * a10 + b2 * a20 + b3 * a30;
  out[5] = b0 * a01 + b1 * a11 + b2 * a21 + b3 * a31;
  out[6] = b0 * a02 + b1 * a12 + b2 * a22 + b3 * a32;
  out[7] = b0 * a03 + b1 * a13 + b2 * a23 + b3 * a33;
  b0 = b[8];
  b1 = b[9];
  b2 = b[10];
  b3 = b[11];
  out[8] = b0 * a00 + b1 * a10 + b2 * a20 + b3 * a30;
  out[9] = b0 * a01 + b1 * a11 + b2 * a21 + b3 * a31;
  out[10] = b0 * a02 + b1 * a12 + b2 * a22 + b3 * a32;
  out[11] = b0 * a03 + b1 * a13 + b2 * a23 + b3 * a33;
  b0 = b[12];
  b1 = b[13];
  b2 = b[14];
  b3 = b[15];
  out[12] = b0 * a00 + b1 * a10 + b2 * a20 + b3 * a30;
  out[13] = b0 * a01 + b1 * a11 + b2 * a21 + b3 * a31;
  out[14] = b0 * a02 + b1 * a12 + b2 * a22 + b3 * a32;
  out[15] = b0 * a03 + b1 * a13 + b2 * a23 + b3 * a33;
  return out;
}
function translate(out, a, v) {
  let x = v[0], y = v[1], z = v[2];
  let a00, a01, a02, a03;
  let a10, a11, a12, a13;
  let a20, a21, a22, a23;
  if (a === out) {
    out[12] = a[0] * x + a[4] * y + a[8] * z + a[12];
    out[13] = a[1] * x + a[5] * y + a[9] * z + a[13];
    out[14] = a[2] * x + a[6] * y + a[10] * z + a[14];
    out[15] = a[3] * x + a[7] * y + a[11] * z + a[15];
  } else {
    a00 = a[0];
    a01 = a[1];
    a02 = a[2];
    a03 = a[3];
    a10 = a[4];
    a11 = a[5];
    a12 = a[6];
    a13 = a[7];
    a20 = a[8];
    a21 = a[9];
    a22 = a[10];
    a23 = a[11];
    out[0] = a00;
    out[1] = a01;
    out[2] = a02;
    out[3] = a03;
    out[4] = a10;
    out[5] = a11;
    out[6] = a12;
    out[7] = a13;
    out[8] = a20;
    out[9] = a21;
    out[10] = a22;
    out[11] = a23;
    out[12] = a00 * x + a10 * y + a20 * z + a[12];
    out[13] = a01 * x + a11 * y + a21 * z + a[13];
    out[14] = a02 * x + a12 * y + a22 * z + a[14];
    out[15] = a03 * x + a13 * y + a23 * z + a[15];
  }
  return out;
}
function scale3(out, a, v) {
  let x = v[0], y = v[1], z = v[2];
  out[0] = a[0] * x;
  out[1] = a[1] * x;
  out[2] = a[2] * x;
  out[3] = a[3] * x;
  out[4] = a[4] * y;
  out[5] = a[5] * y;
  out[6] = a[6] * y;
  out[7] = a[7] * y;
  out[8] = a[8] * z;
  out[9] = a[9] * z;
  out[10] = a[10] * z;
  out[11] = a[11] * z;
  out[12] = a[12];
  out[13] = a[13];
  out[14] = a[14];
  out[15] = a[15];
  return out;
}
function rotate(out, a, rad, axis) {
  let x = axis[0], y = axis[1], z = axis[2];
  let len = Math.hypot(x, y, z);
  let s, c, t;
  let a00, a01, a02, a03;
  let a10, a11, a12, a13;
  let a20, a21, a22, a23;
  let b00, b01, b02;
  let b10, b11, b12;
  let b20, b21, b22;
  if (Math.abs(len) < EPSILON) {
    return null;
  }
  len = 1 / len;
  x *= len;
  y *= len;
  z *= len;
  s = Math.sin(rad);
  c = Math.cos(rad);
  t = 1 - c;
  a00 = a[0];
  a01 = a[1];
  a02 = a[2];
  a03 = a[3];
  a10 = a[4];
  a11 = a[5];
  a12 = a[6];
  a13 = a[7];
  a20 = a[8];
  a21 = a[9];
  a22 = a[10];
  a23 = a[11];
  b00 = x * x * t + c;
  b01 = y * x * t + z * s;
  b02 = z * x * t - y * s;
  b10 = x * y * t - z * s;
  b11 = y * y * t + c;
  b12 = z * y * t + x * s;
  b20 = x * z * t + y * s;
  b21 = y * z * t - x * s;
  b22 = z * z * t + c;
  out[0] = a00 * b00 + a10 * b01 + a20 * b02;
  out[1] = a01 * b00 + a11 * b01 + a21 * b02;
  out[2] = a02 * b00 + a12 * b01 + a22 * b02;
  out[3] = a03 * b00 + a13 * b01 + a23 * b02;
  out[4] = a00 * b10 + a10 * b11 + a20 * b12;
  out[5] = a01 * b10 + a11 * b11 + a21 * b12;
  out[6] = a02 * b10 + a12 * b11 + a22 * b12;
  out[7] = a03 * b10 + a13 * b11 + a23 * b12;
  out[8] = a00 * b20 + a10 * b21 + a20 * b22;
  out[9] = a01 * b20 + a11 * b21 + a21 * b22;
  out[10] = a02 * b20 + a12 * b21 + a22 * b22;
  out[11] = a03 * b20 + a13 * b21 + a23 * b22;
  if (a !== out) {
    out[12] = a[12];
    out[13] = a[13];
    out[14] = a[14];
    out[15] = a[15];
  }
  return out;
}
function getTranslation(out, mat) {
  out[0] = mat[12];
  out[1] = mat[13];
  out[2] = mat[14];
  return out;
}
function getScaling(out, mat) {
  let m11 = mat[0];
  let m12 = mat[1];
  let m13 = mat[2];
  let m21 = mat[4];
  let m22 = mat[5];
  let m23 = mat[6];
  let m31 = mat[8];
  let m32 = mat[9];
  let m33 = mat[10];
  out[0] = Math.hypot(m11, m12, m13);
  out[1] = Math.hypot(m21, m22, m23);
  out[2] = Math.hypot(m31, m32, m33);
  return out;
}
function getMaxScaleOnAxis(mat) {
  let m11 = mat[0];
  let m12 = mat[1];
  let m13 = mat[2];
  let m21 = mat[4];
  let m22 = mat[5];
  let m23 = mat[6];
  let m31 = mat[8];
  let m32 = mat[9];
  let m33 = mat[10];
  const x = m11 * m11 + m12 * m12 + m13 * m13;
  const y = m21 * m21 + m22 * m22 + m23 * m23;
  const z = m31 * m31 + m32 * m32 + m33 * m33;
  return Math.sqrt(Math.max(x, y, z));
}
var getRotation = /* @__PURE__ */ (function() {
  const temp = [1, 1, 1];
  return function(out, mat) {
    let scaling = temp;
    getScaling(scaling, mat);
    let is1 = 1 / scaling[0];
    let is2 = 1 / scaling[1];
    let is3 = 1 / scaling[2];
    let sm11 = mat[0] * is1;
    let sm12 = mat[1] * is2;
    let sm13 = mat[2] * is3;
    let sm21 = mat[4] * is1;
    let sm22 = mat[5] * is2;
    let sm23 = mat[6] * is3;
    let sm31 = mat[8] * is1;
    let sm32 = mat[9] * is2;
    let sm33 = mat[10] * is3;
    let trace = sm11 + sm22 + sm33;
    let S = 0;
    if (trace > 0) {
      S = Math.sqrt(trace + 1) * 2;
      out[3] = 0.25 * S;
      out[0] = (sm23 - sm32) / S;
      out[1] = (sm31 - sm13) / S;
      out[2] = (sm12 - sm21) / S;
    } else if (sm11 > sm22 && sm11 > sm33) {
      S = Math.sqrt(1 + sm11 - sm22 - sm33) * 2;
      out[3] = (sm23 - sm32) / S;
      out[0] = 0.25 * S;
      out[1] = (sm12 + sm21) / S;
      out[2] = (sm31 + sm13) / S;
    } else if (sm22 > sm33) {
      S = Math.sqrt(1 + sm22 - sm11 - sm33) * 2;
      out[3] = (sm31 - sm13) / S;
      out[0] = (sm12 + sm21) / S;
      out[1] = 0.25 * S;
      out[2] = (sm23 + sm32) / S;
    } else {
      S = Math.sqrt(1 + sm33 - sm11 - sm22) * 2;
      out[3] = (sm12 - sm21) / S;
      out[0] = (sm31 + sm13) / S;
      out[1] = (sm23 + sm32) / S;
      out[2] = 0.25 * S;
    }
    return out;
  };
})();
function decompose(srcMat, dstRotation, dstTranslation, dstScale) {
  let sx = length([srcMat[0], srcMat[1], srcMat[2]]);
  const sy = length([srcMat[4], srcMat[5], srcMat[6]]);
  const sz = length([srcMat[8], srcMat[9], srcMat[10]]);
  const det = determinant(srcMat);
  if (det < 0) sx = -sx;
  dstTranslation[0] = srcMat[12];
  dstTranslation[1] = srcMat[13];
  dstTranslation[2] = srcMat[14];
  const _m1 = srcMat.slice();
  const invSX = 1 / sx;
  const invSY = 1 / sy;
  const invSZ = 1 / sz;
  _m1[0] *= invSX;
  _m1[1] *= invSX;
  _m1[2] *= invSX;
  _m1[4] *= invSY;
  _m1[5] *= invSY;
  _m1[6] *= invSY;
  _m1[8] *= invSZ;
  _m1[9] *= invSZ;
  _m1[10] *= invSZ;
  getRotation(dstRotation, _m1);
  dstScale[0] = sx;
  dstScale[1] = sy;
  dstScale[2] = sz;
}
function compose(dstMat, srcRotation, srcTranslation, srcScale) {
  const te = dstMat;
  const x = srcRotation[0], y = srcRotation[1], z = srcRotation[2], w = srcRotation[3];
  const x2 = x + x, y2 = y + y, z2 = z + z;
  const xx = x * x2, xy = x * y2, xz = x * z2;
  const yy = y * y2, yz = y * z2, zz = z * z2;
  const wx = w * x2, wy = w * y2, wz = w * z2;
  const sx = srcScale[0], sy = srcScale[1], sz = srcScale[2];
  te[0] = (1 - (yy + zz)) * sx;
  te[1] = (xy + wz) * sx;
  te[2] = (xz - wy) * sx;
  te[3] = 0;
  te[4] = (xy - wz) * sy;
  te[5] = (1 - (xx + zz)) * sy;
  te[6] = (yz + wx) * sy;
  te[7] = 0;
  te[8] = (xz + wy) * sz;
  te[9] = (yz - wx) * sz;
  te[10] = (1 - (xx + yy)) * sz;
  te[11] = 0;
  te[12] = srcTranslation[0];
  te[13] = srcTranslation[1];
  te[14] = srcTranslation[2];
  te[15] = 1;
  return te;
}
function fromQuat(out, q) {
  let x = q[0], y = q[1], z = q[2], w = q[3];
  let x2 = x + x;
  let y2 = y + y;
  let z2 = z + z;
  let xx = x * x2;
  let yx = y * x2;
  let yy = y * y2;
  let zx = z * x2;
  let zy = z * y2;
  let zz = z * z2;
  let wx = w * x2;
  let wy = w * y2;
  let wz = w * z2;
  out[0] = 1 - yy - zz;
  out[1] = yx + wz;
  out[2] = zx - wy;
  out[3] = 0;
  out[4] = yx - wz;
  out[5] = 1 - xx - zz;
  out[6] = zy + wx;
  out[7] = 0;
  out[8] = zx + wy;
  out[9] = zy - wx;
  out[10] = 1 - xx - yy;
  out[11] = 0;
  out[12] = 0;
  out[13] = 0;
  out[14] = 0;
  out[15] = 1;
  return out;
}
function perspective(out, fovy, aspect, near, far) {
  let f = 1 / Math.tan(fovy / 2);
  let nf = 1 / (near - far);
  out[0] = f / aspect;
  out[1] = 0;
  out[2] = 0;
  out[3] = 0;
  out[4] = 0;
  out[5] = f;
  out[6] = 0;
  out[7] = 0;
  out[8] = 0;
  out[9] = 0;
  out[10] = (far + near) * nf;
  out[11] = -1;
  out[12] = 0;
  out[13] = 0;
  out[14] = 2 * far * near * nf;
  out[15] = 0;
  return out;
}
function ortho(out, left, right, bottom, top, near, far) {
  let lr = 1 / (left - right);
  let bt = 1 / (bottom - top);
  let nf = 1 / (near - far);
  out[0] = -2 * lr;
  out[1] = 0;
  out[2] = 0;
  out[3] = 0;
  out[4] = 0;
  out[5] = -2 * bt;
  out[6] = 0;
  out[7] = 0;
  out[8] = 0;
  out[9] = 0;
  out[10] = 2 * nf;
  out[11] = 0;
  out[12] = (left + right) * lr;
  out[13] = (top + bottom) * bt;
  out[14] = (far + near) * nf;
  out[15] = 1;
  return out;
}
function targetTo(out, eye, target, up) {
  let eyex = eye[0], eyey = eye[1], eyez = eye[2], upx = up[0], upy = up[1], upz = up[2];
  let z0 = eyex - target[0], z1 = eyey - target[1], z2 = eyez - target[2];
  let len = z0 * z0 + z1 * z1 + z2 * z2;
  if (len === 0) {
    z2 = 1;
  } else {
    len = 1 / Math.sqrt(len);
    z0 *= len;
    z1 *= len;
    z2 *= len;
  }
  let x0 = upy * z2 - upz * z1, x1 = upz * z0 - upx * z2, x2 = upx * z1 - upy * z0;
  len = x0 * x0 + x1 * x1 + x2 * x2;
  if (len === 0) {
    if (upz) {
      upx += 1e-6;
    } else if (upy) {
      upz += 1e-6;
    } else {
      upy += 1e-6;
    }
    x0 = upy * z2 - upz * z1, x1 = upz * z0 - upx * z2, x2 = upx * z1 - upy * z0;
    len = x0 * x0 + x1 * x1 + x2 * x2;
  }
  len = 1 / Math.sqrt(len);
  x0 *= len;
  x1 *= len;
  x2 *= len;
  out[0] = x0;
  out[1] = x1;
  out[2] = x2;
  out[3] = 0;
  out[4] = z1 * x2 - z2 * x1;
  out[5] = z2 * x0 - z0 * x2;
  out[6] = z0 * x1 - z1 * x0;
  out[7] = 0;
  out[8] = z0;
  out[9] = z1;
  out[10] = z2;
  out[11] = 0;
  out[12] = eyex;
  out[13] = eyey;
  out[14] = eyez;
  out[15] = 1;
  return out;
}
function add3(out, a, b) {
  out[0] = a[0] + b[0];
  out[1] = a[1] + b[1];
  out[2] = a[2] + b[2];
  out[3] = a[3] + b[3];
  out[4] = a[4] + b[4];
  out[5] = a[5] + b[5];
  out[6] = a[6] + b[6];
  out[7] = a[7] + b[7];
  out[8] = a[8] + b[8];
  out[9] = a[9] + b[9];
  out[10] = a[10] + b[10];
  out[11] = a[11] + b[11];
  out[12] = a[12] + b[12];
  out[13] = a[13] + b[13];
  out[14] = a[14] + b[14];
  out[15] = a[15] + b[15];
  return out;
}
function subtract2(out, a, b) {
  out[0] = a[0] - b[0];
  out[1] = a[1] - b[1];
  out[2] = a[2] - b[2];
  out[3] = a[3] - b[3];
  out[4] = a[4] - b[4];
  out[5] = a[5] - b[5];
  out[6] = a[6] - b[6];
  out[7] = a[7] - b[7];
  out[8] = a[8] - b[8];
  out[9] = a[9] - b[9];
  out[10] = a[10] - b[10];
  out[11] = a[11] - b[11];
  out[12] = a[12] - b[12];
  out[13] = a[13] - b[13];
  out[14] = a[14] - b[14];
  out[15] = a[15] - b[15];
  return out;
}
function multiplyScalar(out, a, b) {
  out[0] = a[0] * b;
  out[1] = a[1] * b;
  out[2] = a[2] * b;
  out[3] = a[3] * b;
  out[4] = a[4] * b;
  out[5] = a[5] * b;
  out[6] = a[6] * b;
  out[7] = a[7] * b;
  out[8] = a[8] * b;
  out[9] = a[9] * b;
  out[10] = a[10] * b;
  out[11] = a[11] * b;
  out[12] = a[12] * b;
  out[13] = a[13] * b;
  out[14] = a[14] * b;
  out[15] = a[15] * b;
  return out;
}

// node_modules/ogl/src/math/Mat4.js
var Mat4 = class extends Array {
  constructor(m00 = 1, m01 = 0, m02 = 0, m03 = 0, m10 = 0, m11 = 1, m12 = 0, m13 = 0, m20 = 0, m21 = 0, m22 = 1, m23 = 0, m30 = 0, m31 = 0, m32 = 0, m33 = 1) {
    super(m00, m01, m02, m03, m10, m11, m12, m13, m20, m21, m22, m23, m30, m31, m32, m33);
    return this;
  }
  get x() {
    return this[12];
  }
  get y() {
    return this[13];
  }
  get z() {
    return this[14];
  }
  get w() {
    return this[15];
  }
  set x(v) {
    this[12] = v;
  }
  set y(v) {
    this[13] = v;
  }
  set z(v) {
    this[14] = v;
  }
  set w(v) {
    this[15] = v;
  }
  set(m00, m01, m02, m03, m10, m11, m12, m13, m20, m21, m22, m23, m30, m31, m32, m33) {
    if (m00.length) return this.copy(m00);
    set4(this, m00, m01, m02, m03, m10, m11, m12, m13, m20, m21, m22, m23, m30, m31, m32, m33);
    return this;
  }
  translate(v, m = this) {
    translate(this, m, v);
    return this;
  }
  rotate(v, axis, m = this) {
    rotate(this, m, v, axis);
    return this;
  }
  scale(v, m = this) {
    scale3(this, m, typeof v === "number" ? [v, v, v] : v);
    return this;
  }
  add(ma, mb) {
    if (mb) add3(this, ma, mb);
    else add3(this, this, ma);
    return this;
  }
  sub(ma, mb) {
    if (mb) subtract2(this, ma, mb);
    else subtract2(this, this, ma);
    return this;
  }
  multiply(ma, mb) {
    if (!ma.length) {
      multiplyScalar(this, this, ma);
    } else if (mb) {
      multiply3(this, ma, mb);
    } else {
      multiply3(this, this, ma);
    }
    return this;
  }
  identity() {
    identity2(this);
    return this;
  }
  copy(m) {
    copy4(this, m);
    return this;
  }
  fromPerspective({ fov, aspect, near, far } = {}) {
    perspective(this, fov, aspect, near, far);
    return this;
  }
  fromOrthogonal({ left, right, bottom, top, near, far }) {
    ortho(this, left, right, bottom, top, near, far);
    return this;
  }
  fromQuaternion(q) {
    fromQuat(this, q);
    return this;
  }
  setPosition(v) {
    this.x = v[0];
    this.y = v[1];
    this.z = v[2];
    return this;
  }
  inverse(m = this) {
    invert2(this, m);
    return this;
  }
  compose(q, pos, scale5) {
    compose(this, q, pos, scale5);
    return this;
  }
  decompose(q, pos, scale5) {
    decompose(this, q, pos, scale5);
    return this;
  }
  getRotation(q) {
    getRotation(q, this);
    return this;
  }
  getTranslation(pos) {
    getTranslation(pos, this);
    return this;
  }
  getScaling(scale5) {
    getScaling(scale5, this);
    return this;
  }
  getMaxScaleOnAxis() {
    return getMaxScaleOnAxis(this);
  }
  lookAt(eye, target, up) {
    targetTo(this, eye, target, up);
    return this;
  }
  determinant() {
    return determinant(this);
  }
  fromArray(a, o = 0) {
    this[0] = a[o];
    this[1] = a[o + 1];
    this[2] = a[o + 2];
    this[3] = a[o + 3];
    this[4] = a[o + 4];
    this[5] = a[o + 5];
    this[6] = a[o + 6];
    this[7] = a[o + 7];
    this[8] = a[o + 8];
    this[9] = a[o + 9];
    this[10] = a[o + 10];
    this[11] = a[o + 11];
    this[12] = a[o + 12];
    this[13] = a[o + 13];
    this[14] = a[o + 14];
    this[15] = a[o + 15];
    return this;
  }
  toArray(a = [], o = 0) {
    a[o] = this[0];
    a[o + 1] = this[1];
    a[o + 2] = this[2];
    a[o + 3] = this[3];
    a[o + 4] = this[4];
    a[o + 5] = this[5];
    a[o + 6] = this[6];
    a[o + 7] = this[7];
    a[o + 8] = this[8];
    a[o + 9] = this[9];
    a[o + 10] = this[10];
    a[o + 11] = this[11];
    a[o + 12] = this[12];
    a[o + 13] = this[13];
    a[o + 14] = this[14];
    a[o + 15] = this[15];
    return a;
  }
};

// node_modules/ogl/src/math/functions/EulerFunc.js
function fromRotationMatrix(out, m, order = "YXZ") {
  if (order === "XYZ") {
    out[1] = Math.asin(Math.min(Math.max(m[8], -1), 1));
    if (Math.abs(m[8]) < 0.99999) {
      out[0] = Math.atan2(-m[9], m[10]);
      out[2] = Math.atan2(-m[4], m[0]);
    } else {
      out[0] = Math.atan2(m[6], m[5]);
      out[2] = 0;
    }
  } else if (order === "YXZ") {
    out[0] = Math.asin(-Math.min(Math.max(m[9], -1), 1));
    if (Math.abs(m[9]) < 0.99999) {
      out[1] = Math.atan2(m[8], m[10]);
      out[2] = Math.atan2(m[1], m[5]);
    } else {
      out[1] = Math.atan2(-m[2], m[0]);
      out[2] = 0;
    }
  } else if (order === "ZXY") {
    out[0] = Math.asin(Math.min(Math.max(m[6], -1), 1));
    if (Math.abs(m[6]) < 0.99999) {
      out[1] = Math.atan2(-m[2], m[10]);
      out[2] = Math.atan2(-m[4], m[5]);
    } else {
      out[1] = 0;
      out[2] = Math.atan2(m[1], m[0]);
    }
  } else if (order === "ZYX") {
    out[1] = Math.asin(-Math.min(Math.max(m[2], -1), 1));
    if (Math.abs(m[2]) < 0.99999) {
      out[0] = Math.atan2(m[6], m[10]);
      out[2] = Math.atan2(m[1], m[0]);
    } else {
      out[0] = 0;
      out[2] = Math.atan2(-m[4], m[5]);
    }
  } else if (order === "YZX") {
    out[2] = Math.asin(Math.min(Math.max(m[1], -1), 1));
    if (Math.abs(m[1]) < 0.99999) {
      out[0] = Math.atan2(-m[9], m[5]);
      out[1] = Math.atan2(-m[2], m[0]);
    } else {
      out[0] = 0;
      out[1] = Math.atan2(m[8], m[10]);
    }
  } else if (order === "XZY") {
    out[2] = Math.asin(-Math.min(Math.max(m[4], -1), 1));
    if (Math.abs(m[4]) < 0.99999) {
      out[0] = Math.atan2(m[6], m[5]);
      out[1] = Math.atan2(m[8], m[0]);
    } else {
      out[0] = Math.atan2(-m[9], m[10]);
      out[1] = 0;
    }
  }
  return out;
}

// node_modules/ogl/src/math/Euler.js
var tmpMat4 = /* @__PURE__ */ new Mat4();
var Euler = class extends Array {
  constructor(x = 0, y = x, z = x, order = "YXZ") {
    super(x, y, z);
    this.order = order;
    this.onChange = () => {
    };
    this._target = this;
    const triggerProps = ["0", "1", "2"];
    return new Proxy(this, {
      set(target, property) {
        const success = Reflect.set(...arguments);
        if (success && triggerProps.includes(property)) target.onChange();
        return success;
      }
    });
  }
  get x() {
    return this[0];
  }
  get y() {
    return this[1];
  }
  get z() {
    return this[2];
  }
  set x(v) {
    this._target[0] = v;
    this.onChange();
  }
  set y(v) {
    this._target[1] = v;
    this.onChange();
  }
  set z(v) {
    this._target[2] = v;
    this.onChange();
  }
  set(x, y = x, z = x) {
    if (x.length) return this.copy(x);
    this._target[0] = x;
    this._target[1] = y;
    this._target[2] = z;
    this.onChange();
    return this;
  }
  copy(v) {
    this._target[0] = v[0];
    this._target[1] = v[1];
    this._target[2] = v[2];
    this.onChange();
    return this;
  }
  reorder(order) {
    this._target.order = order;
    this.onChange();
    return this;
  }
  fromRotationMatrix(m, order = this.order) {
    fromRotationMatrix(this._target, m, order);
    this.onChange();
    return this;
  }
  fromQuaternion(q, order = this.order, isInternal) {
    tmpMat4.fromQuaternion(q);
    this._target.fromRotationMatrix(tmpMat4, order);
    if (!isInternal) this.onChange();
    return this;
  }
  fromArray(a, o = 0) {
    this._target[0] = a[o];
    this._target[1] = a[o + 1];
    this._target[2] = a[o + 2];
    return this;
  }
  toArray(a = [], o = 0) {
    a[o] = this[0];
    a[o + 1] = this[1];
    a[o + 2] = this[2];
    return a;
  }
};

// node_modules/ogl/src/core/Transform.js
var Transform = class {
  constructor() {
    this.parent = null;
    this.children = [];
    this.visible = true;
    this.matrix = new Mat4();
    this.worldMatrix = new Mat4();
    this.matrixAutoUpdate = true;
    this.worldMatrixNeedsUpdate = false;
    this.position = new Vec3();
    this.quaternion = new Quat();
    this.scale = new Vec3(1);
    this.rotation = new Euler();
    this.up = new Vec3(0, 1, 0);
    this.rotation._target.onChange = () => this.quaternion.fromEuler(this.rotation, true);
    this.quaternion._target.onChange = () => this.rotation.fromQuaternion(this.quaternion, void 0, true);
  }
  setParent(parent, notifyParent = true) {
    if (this.parent && parent !== this.parent) this.parent.removeChild(this, false);
    this.parent = parent;
    if (notifyParent && parent) parent.addChild(this, false);
  }
  addChild(child, notifyChild = true) {
    if (!~this.children.indexOf(child)) this.children.push(child);
    if (notifyChild) child.setParent(this, false);
  }
  removeChild(child, notifyChild = true) {
    if (!!~this.children.indexOf(child)) this.children.splice(this.children.indexOf(child), 1);
    if (notifyChild) child.setParent(null, false);
  }
  updateMatrixWorld(force) {
    if (this.matrixAutoUpdate) this.updateMatrix();
    if (this.worldMatrixNeedsUpdate || force) {
      if (this.parent === null) this.worldMatrix.copy(this.matrix);
      else this.worldMatrix.multiply(this.parent.worldMatrix, this.matrix);
      this.worldMatrixNeedsUpdate = false;
      force = true;
    }
    for (let i = 0, l = this.children.length; i < l; i++) {
      this.children[i].updateMatrixWorld(force);
    }
  }
  updateMatrix() {
    this.matrix.compose(this.quaternion, this.position, this.scale);
    this.worldMatrixNeedsUpdate = true;
  }
  traverse(callback) {
    if (callback(this)) return;
    for (let i = 0, l = this.children.length; i < l; i++) {
      this.children[i].traverse(callback);
    }
  }
  decompose() {
    this.matrix.decompose(this.quaternion._target, this.position, this.scale);
    this.rotation.fromQuaternion(this.quaternion);
  }
  lookAt(target, invert4 = false) {
    if (invert4) this.matrix.lookAt(this.position, target, this.up);
    else this.matrix.lookAt(target, this.position, this.up);
    this.matrix.getRotation(this.quaternion._target);
    this.rotation.fromQuaternion(this.quaternion);
  }
};

// node_modules/ogl/src/core/Camera.js
var tempMat4 = /* @__PURE__ */ new Mat4();
var tempVec3a = /* @__PURE__ */ new Vec3();
var tempVec3b = /* @__PURE__ */ new Vec3();
var Camera = class extends Transform {
  constructor(gl, { near = 0.1, far = 100, fov = 45, aspect = 1, left, right, bottom, top, zoom = 1 } = {}) {
    super();
    Object.assign(this, { near, far, fov, aspect, left, right, bottom, top, zoom });
    this.projectionMatrix = new Mat4();
    this.viewMatrix = new Mat4();
    this.projectionViewMatrix = new Mat4();
    this.worldPosition = new Vec3();
    this.type = left || right ? "orthographic" : "perspective";
    if (this.type === "orthographic") this.orthographic();
    else this.perspective();
  }
  perspective({ near = this.near, far = this.far, fov = this.fov, aspect = this.aspect } = {}) {
    Object.assign(this, { near, far, fov, aspect });
    this.projectionMatrix.fromPerspective({ fov: fov * (Math.PI / 180), aspect, near, far });
    this.type = "perspective";
    return this;
  }
  orthographic({
    near = this.near,
    far = this.far,
    left = this.left || -1,
    right = this.right || 1,
    bottom = this.bottom || -1,
    top = this.top || 1,
    zoom = this.zoom
  } = {}) {
    Object.assign(this, { near, far, left, right, bottom, top, zoom });
    left /= zoom;
    right /= zoom;
    bottom /= zoom;
    top /= zoom;
    this.projectionMatrix.fromOrthogonal({ left, right, bottom, top, near, far });
    this.type = "orthographic";
    return this;
  }
  updateMatrixWorld() {
    super.updateMatrixWorld();
    this.viewMatrix.inverse(this.worldMatrix);
    this.worldMatrix.getTranslation(this.worldPosition);
    this.projectionViewMatrix.multiply(this.projectionMatrix, this.viewMatrix);
    return this;
  }
  updateProjectionMatrix() {
    if (this.type === "perspective") {
      return this.perspective();
    } else {
      return this.orthographic();
    }
  }
  lookAt(target) {
    super.lookAt(target, true);
    return this;
  }
  // Project 3D coordinate to 2D point
  project(v) {
    v.applyMatrix4(this.viewMatrix);
    v.applyMatrix4(this.projectionMatrix);
    return this;
  }
  // Unproject 2D point to 3D coordinate
  unproject(v) {
    v.applyMatrix4(tempMat4.inverse(this.projectionMatrix));
    v.applyMatrix4(this.worldMatrix);
    return this;
  }
  updateFrustum() {
    if (!this.frustum) {
      this.frustum = [new Vec3(), new Vec3(), new Vec3(), new Vec3(), new Vec3(), new Vec3()];
    }
    const m = this.projectionViewMatrix;
    this.frustum[0].set(m[3] - m[0], m[7] - m[4], m[11] - m[8]).constant = m[15] - m[12];
    this.frustum[1].set(m[3] + m[0], m[7] + m[4], m[11] + m[8]).constant = m[15] + m[12];
    this.frustum[2].set(m[3] + m[1], m[7] + m[5], m[11] + m[9]).constant = m[15] + m[13];
    this.frustum[3].set(m[3] - m[1], m[7] - m[5], m[11] - m[9]).constant = m[15] - m[13];
    this.frustum[4].set(m[3] - m[2], m[7] - m[6], m[11] - m[10]).constant = m[15] - m[14];
    this.frustum[5].set(m[3] + m[2], m[7] + m[6], m[11] + m[10]).constant = m[15] + m[14];
    for (let i = 0; i < 6; i++) {
      const invLen = 1 / this.frustum[i].distance();
      this.frustum[i].multiply(invLen);
      this.frustum[i].constant *= invLen;
    }
  }
  frustumIntersectsMesh(node, worldMatrix = node.worldMatrix) {
    if (!node.geometry.attributes.position) return true;
    if (!node.geometry.bounds || node.geometry.bounds.radius === Infinity) node.geometry.computeBoundingSphere();
    if (!node.geometry.bounds) return true;
    const center = tempVec3a;
    center.copy(node.geometry.bounds.center);
    center.applyMatrix4(worldMatrix);
    const radius = node.geometry.bounds.radius * worldMatrix.getMaxScaleOnAxis();
    return this.frustumIntersectsSphere(center, radius);
  }
  frustumIntersectsSphere(center, radius) {
    const normal = tempVec3b;
    for (let i = 0; i < 6; i++) {
      const plane = this.frustum[i];
      const distance2 = normal.copy(plane).dot(center) + plane.constant;
      if (distance2 < -radius) return false;
    }
    return true;
  }
};

// node_modules/ogl/src/math/functions/Mat3Func.js
function fromMat4(out, a) {
  out[0] = a[0];
  out[1] = a[1];
  out[2] = a[2];
  out[3] = a[4];
  out[4] = a[5];
  out[5] = a[6];
  out[6] = a[8];
  out[7] = a[9];
  out[8] = a[10];
  return out;
}
function fromQuat2(out, q) {
  let x = q[0], y = q[1], z = q[2], w = q[3];
  let x2 = x + x;
  let y2 = y + y;
  let z2 = z + z;
  let xx = x * x2;
  let yx = y * x2;
  let yy = y * y2;
  let zx = z * x2;
  let zy = z * y2;
  let zz = z * z2;
  let wx = w * x2;
  let wy = w * y2;
  let wz = w * z2;
  out[0] = 1 - yy - zz;
  out[3] = yx - wz;
  out[6] = zx + wy;
  out[1] = yx + wz;
  out[4] = 1 - xx - zz;
  out[7] = zy - wx;
  out[2] = zx - wy;
  out[5] = zy + wx;
  out[8] = 1 - xx - yy;
  return out;
}
function copy5(out, a) {
  out[0] = a[0];
  out[1] = a[1];
  out[2] = a[2];
  out[3] = a[3];
  out[4] = a[4];
  out[5] = a[5];
  out[6] = a[6];
  out[7] = a[7];
  out[8] = a[8];
  return out;
}
function set5(out, m00, m01, m02, m10, m11, m12, m20, m21, m22) {
  out[0] = m00;
  out[1] = m01;
  out[2] = m02;
  out[3] = m10;
  out[4] = m11;
  out[5] = m12;
  out[6] = m20;
  out[7] = m21;
  out[8] = m22;
  return out;
}
function identity3(out) {
  out[0] = 1;
  out[1] = 0;
  out[2] = 0;
  out[3] = 0;
  out[4] = 1;
  out[5] = 0;
  out[6] = 0;
  out[7] = 0;
  out[8] = 1;
  return out;
}
function invert3(out, a) {
  let a00 = a[0], a01 = a[1], a02 = a[2];
  let a10 = a[3], a11 = a[4], a12 = a[5];
  let a20 = a[6], a21 = a[7], a22 = a[8];
  let b01 = a22 * a11 - a12 * a21;
  let b11 = -a22 * a10 + a12 * a20;
  let b21 = a21 * a10 - a11 * a20;
  let det = a00 * b01 + a01 * b11 + a02 * b21;
  if (!det) {
    return null;
  }
  det = 1 / det;
  out[0] = b01 * det;
  out[1] = (-a22 * a01 + a02 * a21) * det;
  out[2] = (a12 * a01 - a02 * a11) * det;
  out[3] = b11 * det;
  out[4] = (a22 * a00 - a02 * a20) * det;
  out[5] = (-a12 * a00 + a02 * a10) * det;
  out[6] = b21 * det;
  out[7] = (-a21 * a00 + a01 * a20) * det;
  out[8] = (a11 * a00 - a01 * a10) * det;
  return out;
}
function multiply4(out, a, b) {
  let a00 = a[0], a01 = a[1], a02 = a[2];
  let a10 = a[3], a11 = a[4], a12 = a[5];
  let a20 = a[6], a21 = a[7], a22 = a[8];
  let b00 = b[0], b01 = b[1], b02 = b[2];
  let b10 = b[3], b11 = b[4], b12 = b[5];
  let b20 = b[6], b21 = b[7], b22 = b[8];
  out[0] = b00 * a00 + b01 * a10 + b02 * a20;
  out[1] = b00 * a01 + b01 * a11 + b02 * a21;
  out[2] = b00 * a02 + b01 * a12 + b02 * a22;
  out[3] = b10 * a00 + b11 * a10 + b12 * a20;
  out[4] = b10 * a01 + b11 * a11 + b12 * a21;
  out[5] = b10 * a02 + b11 * a12 + b12 * a22;
  out[6] = b20 * a00 + b21 * a10 + b22 * a20;
  out[7] = b20 * a01 + b21 * a11 + b22 * a21;
  out[8] = b20 * a02 + b21 * a12 + b22 * a22;
  return out;
}
function translate2(out, a, v) {
  let a00 = a[0], a01 = a[1], a02 = a[2], a10 = a[3], a11 = a[4], a12 = a[5], a20 = a[6], a21 = a[7], a22 = a[8], x = v[0], y = v[1];
  out[0] = a00;
  out[1] = a01;
  out[2] = a02;
  out[3] = a10;
  out[4] = a11;
  out[5] = a12;
  out[6] = x * a00 + y * a10 + a20;
  out[7] = x * a01 + y * a11 + a21;
  out[8] = x * a02 + y * a12 + a22;
  return out;
}
function rotate2(out, a, rad) {
  let a00 = a[0], a01 = a[1], a02 = a[2], a10 = a[3], a11 = a[4], a12 = a[5], a20 = a[6], a21 = a[7], a22 = a[8], s = Math.sin(rad), c = Math.cos(rad);
  out[0] = c * a00 + s * a10;
  out[1] = c * a01 + s * a11;
  out[2] = c * a02 + s * a12;
  out[3] = c * a10 - s * a00;
  out[4] = c * a11 - s * a01;
  out[5] = c * a12 - s * a02;
  out[6] = a20;
  out[7] = a21;
  out[8] = a22;
  return out;
}
function scale4(out, a, v) {
  let x = v[0], y = v[1];
  out[0] = x * a[0];
  out[1] = x * a[1];
  out[2] = x * a[2];
  out[3] = y * a[3];
  out[4] = y * a[4];
  out[5] = y * a[5];
  out[6] = a[6];
  out[7] = a[7];
  out[8] = a[8];
  return out;
}
function normalFromMat4(out, a) {
  let a00 = a[0], a01 = a[1], a02 = a[2], a03 = a[3];
  let a10 = a[4], a11 = a[5], a12 = a[6], a13 = a[7];
  let a20 = a[8], a21 = a[9], a22 = a[10], a23 = a[11];
  let a30 = a[12], a31 = a[13], a32 = a[14], a33 = a[15];
  let b00 = a00 * a11 - a01 * a10;
  let b01 = a00 * a12 - a02 * a10;
  let b02 = a00 * a13 - a03 * a10;
  let b03 = a01 * a12 - a02 * a11;
  let b04 = a01 * a13 - a03 * a11;
  let b05 = a02 * a13 - a03 * a12;
  let b06 = a20 * a31 - a21 * a30;
  let b07 = a20 * a32 - a22 * a30;
  let b08 = a20 * a33 - a23 * a30;
  let b09 = a21 * a32 - a22 * a31;
  let b10 = a21 * a33 - a23 * a31;
  let b11 = a22 * a33 - a23 * a32;
  let det = b00 * b11 - b01 * b10 + b02 * b09 + b03 * b08 - b04 * b07 + b05 * b06;
  if (!det) {
    return null;
  }
  det = 1 / det;
  out[0] = (a11 * b11 - a12 * b10 + a13 * b09) * det;
  out[1] = (a12 * b08 - a10 * b11 - a13 * b07) * det;
  out[2] = (a10 * b10 - a11 * b08 + a13 * b06) * det;
  out[3] = (a02 * b10 - a01 * b11 - a03 * b09) * det;
  out[4] = (a00 * b11 - a02 * b08 + a03 * b07) * det;
  out[5] = (a01 * b08 - a00 * b10 - a03 * b06) * det;
  out[6] = (a31 * b05 - a32 * b04 + a33 * b03) * det;
  out[7] = (a32 * b02 - a30 * b05 - a33 * b01) * det;
  out[8] = (a30 * b04 - a31 * b02 + a33 * b00) * det;
  return out;
}

// node_modules/ogl/src/math/Mat3.js
var Mat3 = class extends Array {
  constructor(m00 = 1, m01 = 0, m02 = 0, m10 = 0, m11 = 1, m12 = 0, m20 = 0, m21 = 0, m22 = 1) {
    super(m00, m01, m02, m10, m11, m12, m20, m21, m22);
    return this;
  }
  set(m00, m01, m02, m10, m11, m12, m20, m21, m22) {
    if (m00.length) return this.copy(m00);
    set5(this, m00, m01, m02, m10, m11, m12, m20, m21, m22);
    return this;
  }
  translate(v, m = this) {
    translate2(this, m, v);
    return this;
  }
  rotate(v, m = this) {
    rotate2(this, m, v);
    return this;
  }
  scale(v, m = this) {
    scale4(this, m, v);
    return this;
  }
  multiply(ma, mb) {
    if (mb) {
      multiply4(this, ma, mb);
    } else {
      multiply4(this, this, ma);
    }
    return this;
  }
  identity() {
    identity3(this);
    return this;
  }
  copy(m) {
    copy5(this, m);
    return this;
  }
  fromMatrix4(m) {
    fromMat4(this, m);
    return this;
  }
  fromQuaternion(q) {
    fromQuat2(this, q);
    return this;
  }
  fromBasis(vec3a, vec3b, vec3c) {
    this.set(vec3a[0], vec3a[1], vec3a[2], vec3b[0], vec3b[1], vec3b[2], vec3c[0], vec3c[1], vec3c[2]);
    return this;
  }
  inverse(m = this) {
    invert3(this, m);
    return this;
  }
  getNormalMatrix(m) {
    normalFromMat4(this, m);
    return this;
  }
};

// node_modules/ogl/src/core/Mesh.js
var ID4 = 0;
var Mesh = class extends Transform {
  constructor(gl, { geometry, program, mode = gl.TRIANGLES, frustumCulled = true, renderOrder = 0 } = {}) {
    super();
    if (!gl.canvas) console.error("gl not passed as first argument to Mesh");
    this.gl = gl;
    this.id = ID4++;
    this.geometry = geometry;
    this.program = program;
    this.mode = mode;
    this.frustumCulled = frustumCulled;
    this.renderOrder = renderOrder;
    this.modelViewMatrix = new Mat4();
    this.normalMatrix = new Mat3();
    this.beforeRenderCallbacks = [];
    this.afterRenderCallbacks = [];
  }
  onBeforeRender(f) {
    this.beforeRenderCallbacks.push(f);
    return this;
  }
  onAfterRender(f) {
    this.afterRenderCallbacks.push(f);
    return this;
  }
  draw({ camera } = {}) {
    if (camera) {
      if (!this.program.uniforms.modelMatrix) {
        Object.assign(this.program.uniforms, {
          modelMatrix: { value: null },
          viewMatrix: { value: null },
          modelViewMatrix: { value: null },
          normalMatrix: { value: null },
          projectionMatrix: { value: null },
          cameraPosition: { value: null }
        });
      }
      this.program.uniforms.projectionMatrix.value = camera.projectionMatrix;
      this.program.uniforms.cameraPosition.value = camera.worldPosition;
      this.program.uniforms.viewMatrix.value = camera.viewMatrix;
      this.modelViewMatrix.multiply(camera.viewMatrix, this.worldMatrix);
      this.normalMatrix.getNormalMatrix(this.modelViewMatrix);
      this.program.uniforms.modelMatrix.value = this.worldMatrix;
      this.program.uniforms.modelViewMatrix.value = this.modelViewMatrix;
      this.program.uniforms.normalMatrix.value = this.normalMatrix;
    }
    this.beforeRenderCallbacks.forEach((f) => f && f({ mesh: this, camera }));
    let flipFaces = this.program.cullFace && this.worldMatrix.determinant() < 0;
    this.program.use({ flipFaces });
    this.geometry.draw({ mode: this.mode, program: this.program });
    this.afterRenderCallbacks.forEach((f) => f && f({ mesh: this, camera }));
  }
};

// src/paint.vertex.glsl
var paint_vertex_default = "attribute vec3 position;\nattribute vec3 normal;\nattribute vec3 place;\nattribute vec4 masks;\nattribute float material;\n\nuniform mat4 modelViewMatrix;\nuniform mat4 projectionMatrix;\nuniform mat3 normalMatrix;\n\nvarying vec3 vNormal;\nvarying vec3 vPlace;\nvarying vec4 vMasks;\nvarying float vMaterial;\n\nvoid main() {\n    vNormal = normalMatrix * normal;\n    vPlace = place;\n    vMasks = masks;\n    vMaterial = material;\n    gl_Position = projectionMatrix * modelViewMatrix * vec4(position, 1.0);\n}\n";

// src/paint.fragment.glsl
var paint_fragment_default = "// The head's colours, painted by place.\nprecision highp float;\n\nvarying vec3 vNormal;\nvarying vec3 vPlace; // metres in the resting mesh: x to the person's left, -y to the front, z up; eyeballs: direction from their centre\nvarying vec4 vMasks; // lips, inside of the mouth, eyelids, hair\nvarying float vMaterial; // 0 skin, 1 eye, 2 teeth, 3 tongue, 4 lashes\n\nconst vec3 LIGHT = vec3(0.38, 0.52, 0.76);\nconst vec3 SKIN = vec3(0.66, 0.38, 0.25);\nconst vec3 LIP = vec3(0.53, 0.18, 0.15);\nconst vec3 HAIR = vec3(0.055, 0.026, 0.016);\nconst vec3 BROW = vec3(0.045, 0.018, 0.009);\nconst vec3 IRIS = vec3(0.06, 0.16, 0.18);\n\nfloat hash(vec2 p) {\n    return fract(sin(dot(p, vec2(127.1, 311.7))) * 43758.5453);\n}\n\nfloat noise(vec2 p) {\n    vec2 i = floor(p);\n    vec2 f = smoothstep(0.0, 1.0, p - i);\n    return mix(mix(hash(i), hash(i + vec2(1, 0)), f.x), mix(hash(i + vec2(0, 1)), hash(i + vec2(1, 1)), f.x), f.y);\n}\n\nfloat brow(float x, float z) {\n    float t = (x - 0.0115) / 0.039;\n    float middle = 0.7435 + 0.0048 * sin(3.14159 * pow(clamp(t, 0.0, 1.0), 1.3)) - 0.0015 * t;\n    float halfHeight = 0.0031 * clamp(1.15 - 0.75 * t, 0.0, 1.0);\n    float ends = smoothstep(-0.05, 0.06, t) * (1.0 - smoothstep(0.9, 1.02, t));\n    return smoothstep(-0.0006, 0.0006, halfHeight - abs(z - middle)) * ends;\n}\n\nvoid main() {\n    vec3 normal = normalize(vNormal);\n    float x = abs(vPlace.x), y = vPlace.y, z = vPlace.z;\n    vec3 colour = SKIN;\n    float gloss = 0.10;\n    float shade = 1.0;\n    if (vMaterial < 0.5) {\n        float front = step(y, -0.06);\n        vec2 fromCheek = vec2((x - 0.042) / 0.018, (z - 0.690) / 0.016);\n        float cheek = exp(-dot(fromCheek, fromCheek)) * front;\n        colour = mix(colour, SKIN * vec3(1.0, 0.72, 0.70), 0.5 * cheek);\n        colour = mix(colour, SKIN * 0.72, 0.6 * vMasks.z);\n        float lip = smoothstep(0.30, 0.65, vMasks.x);\n        colour = mix(colour, LIP, lip);\n        gloss += 0.18 * lip;\n        float inside = smoothstep(0.25, 0.60, vMasks.y);\n        colour = mix(colour, vec3(0.03, 0.006, 0.006), inside);\n        gloss *= 1.0 - inside;\n        colour = mix(colour, BROW * (0.75 + 0.5 * noise(vec2(vPlace.x * 900.0, z * 250.0))), 0.92 * brow(x, z) * front);\n        float hair = smoothstep(0.48, 0.52, vMasks.w + 0.05 * (noise(vec2(vPlace.x * 500.0, y * 200.0)) - 0.5));\n        float angle = atan(vPlace.x, 0.80 - z);\n        float strands = 0.65 + 0.7 * noise(vec2(angle * 55.0 + 3.0 * noise(vec2(y, z) * 60.0), y * 25.0));\n        colour = mix(colour, HAIR * strands, hair);\n        gloss = mix(gloss, 0.06, hair);\n    } else if (vMaterial < 1.5) {\n        float radius = length(vPlace.xz);\n        colour = mix(vec3(0.80, 0.77, 0.75), IRIS * (1.0 - 0.65 * smoothstep(0.34, 0.44, radius)), 1.0 - smoothstep(0.43, 0.47, radius));\n        colour *= 1.0 - 0.97 * (1.0 - smoothstep(0.16, 0.20, radius));\n        gloss = 0.0;\n        shade = 1.0 - 0.45 * smoothstep(0.05, 0.55, z); // the upper lid's shadow\n    } else if (vMaterial < 2.5) {\n        colour = vec3(0.72, 0.68, 0.58);\n        shade = 0.85;\n    } else if (vMaterial < 3.5) {\n        colour = vec3(0.30, 0.07, 0.07);\n        shade = 0.7;\n    } else {\n        colour = vec3(0.02, 0.012, 0.01);\n        gloss = 0.0;\n    }\n    vec3 light = normalize(LIGHT);\n    float diffuse = clamp((dot(normal, light) + 0.25) / 1.25, 0.0, 1.0);\n    float fill = clamp(0.7 * normal.z + 0.3 * normal.y, 0.0, 1.0);\n    float energy = (0.38 * (0.45 + 0.55 * fill) + 0.85 * diffuse) * shade;\n    if (vMaterial > 1.5 && vMaterial < 2.5) energy = mix(energy, 0.8, 0.75); // too few corners to be shaded by\n    float sheen = clamp(dot(normal, normalize(light + vec3(0, 0, 1))), 0.0, 1.0);\n    float eye = step(0.5, vMaterial) * step(vMaterial, 1.5);\n    vec3 lit = colour * energy + 0.85 * gloss * pow(sheen, 18.0) + 0.8 * eye * step(0.985, sheen);\n    float seen = vMaterial < 0.5 ? smoothstep(0.555, 0.600, z + 0.35 * clamp(y + 0.06, -0.1, 0.1)) : 1.0; // the neck fades out\n    gl_FragColor = vec4(sqrt(lit) * seen, seen);\n}\n";

// src/words.js
import { app } from "../../../scripts/app.js";

// src/words.ja.json
var words_ja_default = {
  "Set it on a face": "顔で設定する",
  "expression editor": "表情エディター",
  "The head is loading.": "頭部を読み込んでいます。",
  "The editor could not be loaded ({0}). The widgets above work without it.": "エディターを読み込めませんでした（{0}）。上のウィジェットはそのまま使えます。",
  "pull one side only (or hold Shift)": "片側だけを引く（または Shift を押す）",
  "One side": "片側",
  undo: "元に戻す",
  redo: "やり直す",
  "a neutral face": "無表情の顔",
  Neutral: "無表情",
  intensity: "強さ",
  "second weight": "第二の表情の強さ",
  Faces: "顔",
  Feeling: "気分",
  Muscles: "筋肉",
  Mine: "自分の",
  "face: {0}": "顔：{0}",
  "By a link, neither set nor shown here: {0}": "リンクから来るため、ここでは設定も表示もしない値：{0}",
  "a click chooses": "クリックで選ぶもの",
  Expression: "表情",
  "Second, to blend": "混ぜる第二の表情",
  expression: "表情",
  "second expression": "第二の表情",
  "This browser has no WebGL: the head cannot be drawn. All controls work without it.": "このブラウザーには WebGL がなく、頭部を描けません。操作はすべてそのまま使えます。",
  "valence (unpleasant to pleasant)": "感情価（不快から快）",
  "arousal (calm to excited)": "覚醒度（落ち着きから興奮）",
  calm: "落ち着き",
  "name of this expression": "この表情の名前",
  Keep: "残す",
  "Give it a name first.": "先に名前を付けてください。",
  "“{0}” is there already: choose another name, or delete it first.": "「{0}」はすでにあります。別の名前にするか、先に削除してください。",
  "ComfyUI could not keep that: {0}": "ComfyUI が保存できませんでした: {0}",
  "it is not there when read again": "読み直すとありません",
  "Kept “{0}”.": "「{0}」を残しました。",
  "delete {0}": "{0} を削除",
  ", left": "、左",
  ", right": "、右",
  "left and right apart (the person’s own)": "左右を別々に（本人の左右）",
  "{0} on the left side": "左側の{0}",
  "{0} on the right side": "右側の{0}",
  "action_units cannot be read: {0}": "アクションユニットを読み取れません：{0}",
  "no expression": "表情なし",
  none: "なし",
  neutral: "無表情",
  happy: "喜び",
  sad: "悲しみ",
  angry: "怒り",
  surprised: "驚き",
  fearful: "恐れ",
  disgusted: "嫌悪",
  contempt: "軽蔑",
  shocked: "衝撃",
  "happily surprised": "嬉しい驚き",
  "happily disgusted": "笑いまじりの嫌悪",
  "sadly fearful": "悲しい恐れ",
  "sadly angry": "悲しい怒り",
  "sadly surprised": "悲しい驚き",
  "sadly disgusted": "悲しい嫌悪",
  "fearfully angry": "恐れまじりの怒り",
  "fearfully surprised": "恐れまじりの驚き",
  "fearfully disgusted": "恐れまじりの嫌悪",
  "angrily surprised": "怒りまじりの驚き",
  "angrily disgusted": "怒りまじりの嫌悪",
  "disgustedly surprised": "嫌悪まじりの驚き",
  appalled: "愕然",
  hateful: "憎しみ",
  awed: "畏敬",
  bittersweet: "ほろ苦さ",
  "raised inner brows": "眉の内側を上げる",
  "raised outer brows": "眉の外側を上げる",
  "lowered brows": "眉を下げる",
  "wide open eyes": "目を見開く",
  "raised cheeks": "頬を上げる",
  "tightened eyelids": "まぶたを緊張させる",
  "wrinkled nose": "鼻にしわを寄せる",
  "raised upper lip": "上唇を上げる",
  "lip corners pulled up": "口角を引き上げる",
  "dimpled lip corners": "えくぼを作る",
  "lip corners pulled down": "口角を下げる",
  "raised chin": "顎を上げる",
  "stretched lips": "唇を横に引く",
  "tightened lips": "唇を固く閉じる",
  "pressed lips": "唇を押しつける",
  "parted lips": "唇を開く",
  "jaw dropped": "顎を下げる",
  "mouth wide open": "口を大きく開ける",
  "eyes closed": "目を閉じる",
  winking: "ウインク",
  brows: "眉",
  eyes: "目",
  nose: "鼻",
  mouth: "口",
  jaw: "顎",
  "inner brow": "眉の内側",
  "outer brow": "眉の外側",
  "upper eyelid": "上まぶた",
  "lower eyelid": "下まぶた",
  cheek: "頬",
  "side of the nose": "鼻の脇",
  "corner of the mouth": "口角",
  "upper lip": "上唇",
  "lower lip": "下唇",
  chin: "顎先",
  "the whole face": "顔全体",
  Add: "追加",
  "add this face to the list": "この顔を一覧に加える",
  "what is drawn, in this order": "この順に描かれるもの",
  "All basic ones": "基本の表情すべて",
  None: "すべて外す",
  "earlier: {0}": "前へ：{0}",
  "later: {0}": "後ろへ：{0}",
  "take out {0}": "{0} を外す",
  report: "レポート"
};

// src/words.ko.json
var words_ko_default = {
  "Set it on a face": "얼굴에서 정하기",
  "expression editor": "표정 편집기",
  "The head is loading.": "머리를 불러오는 중입니다.",
  "The editor could not be loaded ({0}). The widgets above work without it.": "편집기를 불러오지 못했습니다({0}). 위의 위젯은 그대로 쓸 수 있습니다.",
  "pull one side only (or hold Shift)": "한쪽만 당기기(또는 Shift 누르기)",
  "One side": "한쪽",
  undo: "실행 취소",
  redo: "다시 실행",
  "a neutral face": "무표정한 얼굴",
  Neutral: "무표정",
  intensity: "세기",
  "second weight": "둘째 표정의 세기",
  Faces: "얼굴",
  Feeling: "느낌",
  Muscles: "근육",
  Mine: "내 것",
  "face: {0}": "얼굴: {0}",
  "By a link, neither set nor shown here: {0}": "연결로 들어와 여기서 정하지도 보여 주지도 않는 값: {0}",
  "a click chooses": "누르면 고르는 것",
  Expression: "표정",
  "Second, to blend": "섞을 둘째 표정",
  expression: "표정",
  "second expression": "둘째 표정",
  "This browser has no WebGL: the head cannot be drawn. All controls work without it.": "이 브라우저에는 WebGL이 없어 머리를 그릴 수 없습니다. 모든 조작은 그대로 쓸 수 있습니다.",
  "valence (unpleasant to pleasant)": "정서가(불쾌에서 유쾌)",
  "arousal (calm to excited)": "각성도(차분함에서 흥분)",
  calm: "차분함",
  "name of this expression": "이 표정의 이름",
  Keep: "간직하기",
  "Give it a name first.": "먼저 이름을 붙이세요.",
  "“{0}” is there already: choose another name, or delete it first.": "“{0}”은(는) 이미 있습니다. 다른 이름을 고르거나 먼저 지우세요.",
  "ComfyUI could not keep that: {0}": "ComfyUI가 저장하지 못했습니다: {0}",
  "it is not there when read again": "다시 읽으면 없습니다",
  "Kept “{0}”.": "“{0}”을(를) 간직했습니다.",
  "delete {0}": "{0} 지우기",
  ", left": ", 왼쪽",
  ", right": ", 오른쪽",
  "left and right apart (the person’s own)": "왼쪽과 오른쪽 따로(본인 기준)",
  "{0} on the left side": "왼쪽 {0}",
  "{0} on the right side": "오른쪽 {0}",
  "action_units cannot be read: {0}": "동작 단위를 읽을 수 없습니다: {0}",
  "no expression": "표정 없음",
  none: "없음",
  neutral: "무표정",
  happy: "행복",
  sad: "슬픔",
  angry: "분노",
  surprised: "놀람",
  fearful: "두려움",
  disgusted: "혐오",
  contempt: "경멸",
  shocked: "충격",
  "happily surprised": "기쁜 놀람",
  "happily disgusted": "웃음 섞인 혐오",
  "sadly fearful": "슬픈 두려움",
  "sadly angry": "슬픈 분노",
  "sadly surprised": "슬픈 놀람",
  "sadly disgusted": "슬픈 혐오",
  "fearfully angry": "두려운 분노",
  "fearfully surprised": "두려운 놀람",
  "fearfully disgusted": "두려운 혐오",
  "angrily surprised": "성난 놀람",
  "angrily disgusted": "성난 혐오",
  "disgustedly surprised": "혐오 섞인 놀람",
  appalled: "경악",
  hateful: "증오",
  awed: "경외",
  bittersweet: "시원섭섭함",
  "raised inner brows": "눈썹 안쪽 올리기",
  "raised outer brows": "눈썹 바깥쪽 올리기",
  "lowered brows": "눈썹 내리기",
  "wide open eyes": "눈 크게 뜨기",
  "raised cheeks": "볼 올리기",
  "tightened eyelids": "눈꺼풀 조이기",
  "wrinkled nose": "코 찡그리기",
  "raised upper lip": "윗입술 올리기",
  "lip corners pulled up": "입꼬리 올리기",
  "dimpled lip corners": "보조개 만들기",
  "lip corners pulled down": "입꼬리 내리기",
  "raised chin": "턱 올리기",
  "stretched lips": "입술 옆으로 당기기",
  "tightened lips": "입술 조이기",
  "pressed lips": "입술 누르기",
  "parted lips": "입술 벌리기",
  "jaw dropped": "턱 내리기",
  "mouth wide open": "입 크게 벌리기",
  "eyes closed": "눈 감기",
  winking: "윙크",
  brows: "눈썹",
  eyes: "눈",
  nose: "코",
  mouth: "입",
  jaw: "턱",
  "inner brow": "눈썹 안쪽",
  "outer brow": "눈썹 바깥쪽",
  "upper eyelid": "윗눈꺼풀",
  "lower eyelid": "아랫눈꺼풀",
  cheek: "볼",
  "side of the nose": "콧방울",
  "corner of the mouth": "입꼬리",
  "upper lip": "윗입술",
  "lower lip": "아랫입술",
  chin: "턱끝",
  "the whole face": "얼굴 전체",
  Add: "추가",
  "add this face to the list": "이 얼굴을 목록에 추가",
  "what is drawn, in this order": "이 순서로 그려지는 것",
  "All basic ones": "기본 표정 모두",
  None: "모두 빼기",
  "earlier: {0}": "앞으로: {0}",
  "later: {0}": "뒤로: {0}",
  "take out {0}": "{0} 빼기",
  report: "보고"
};

// src/words.zh.json
var words_zh_default = {
  "Set it on a face": "在脸上设定",
  "expression editor": "表情编辑器",
  "The head is loading.": "正在加载头像。",
  "The editor could not be loaded ({0}). The widgets above work without it.": "编辑器无法加载（{0}）。没有它，上面的控件照样可用。",
  "pull one side only (or hold Shift)": "只拉一侧（或按住 Shift）",
  "One side": "单侧",
  undo: "撤销",
  redo: "重做",
  "a neutral face": "中性的脸",
  Neutral: "中性",
  intensity: "强度",
  "second weight": "第二表情强度",
  Faces: "面孔",
  Feeling: "感受",
  Muscles: "肌肉",
  Mine: "我的",
  "face: {0}": "脸：{0}",
  "By a link, neither set nor shown here: {0}": "由连线传入，此处既不设置也不显示：{0}",
  "a click chooses": "点击时选择",
  Expression: "表情",
  "Second, to blend": "第二表情，用于混合",
  expression: "表情",
  "second expression": "第二表情",
  "This browser has no WebGL: the head cannot be drawn. All controls work without it.": "这个浏览器没有 WebGL，无法画出头像。没有它，所有控件照样可用。",
  "valence (unpleasant to pleasant)": "效价（不愉快到愉快）",
  "arousal (calm to excited)": "唤醒度（平静到兴奋）",
  calm: "平静",
  "name of this expression": "这个表情的名称",
  Keep: "保存",
  "Give it a name first.": "请先给它起个名称。",
  "“{0}” is there already: choose another name, or delete it first.": "“{0}”已经存在：请换一个名称，或先删除它。",
  "ComfyUI could not keep that: {0}": "ComfyUI 未能保存：{0}",
  "it is not there when read again": "重新读取时不存在",
  "Kept “{0}”.": "已保存“{0}”。",
  "delete {0}": "删除 {0}",
  ", left": "，左",
  ", right": "，右",
  "left and right apart (the person’s own)": "左右分开（以本人的左右为准）",
  "{0} on the left side": "左侧{0}",
  "{0} on the right side": "右侧{0}",
  "action_units cannot be read: {0}": "无法读懂动作单元：{0}",
  "no expression": "没有表情",
  none: "无",
  neutral: "中性",
  happy: "高兴",
  sad: "悲伤",
  angry: "愤怒",
  surprised: "惊讶",
  fearful: "恐惧",
  disgusted: "厌恶",
  contempt: "轻蔑",
  shocked: "震惊",
  "happily surprised": "惊喜",
  "happily disgusted": "又好笑又嫌恶",
  "sadly fearful": "悲伤而恐惧",
  "sadly angry": "悲愤",
  "sadly surprised": "悲伤而惊讶",
  "sadly disgusted": "悲伤而厌恶",
  "fearfully angry": "恐惧而愤怒",
  "fearfully surprised": "惊恐",
  "fearfully disgusted": "恐惧而厌恶",
  "angrily surprised": "惊怒",
  "angrily disgusted": "愤怒而厌恶",
  "disgustedly surprised": "厌恶而惊讶",
  appalled: "骇然",
  hateful: "憎恨",
  awed: "敬畏",
  bittersweet: "苦乐参半",
  "raised inner brows": "抬起眉头",
  "raised outer brows": "抬起眉梢",
  "lowered brows": "压低眉毛",
  "wide open eyes": "睁大眼睛",
  "raised cheeks": "抬起脸颊",
  "tightened eyelids": "收紧眼睑",
  "wrinkled nose": "皱鼻",
  "raised upper lip": "抬起上唇",
  "lip corners pulled up": "嘴角上扬",
  "dimpled lip corners": "嘴角挤出酒窝",
  "lip corners pulled down": "嘴角下垂",
  "raised chin": "抬起下巴",
  "stretched lips": "拉开嘴唇",
  "tightened lips": "收紧嘴唇",
  "pressed lips": "抿紧嘴唇",
  "parted lips": "嘴唇分开",
  "jaw dropped": "下颌下垂",
  "mouth wide open": "张大嘴",
  "eyes closed": "闭眼",
  winking: "眨一只眼",
  brows: "眉毛",
  eyes: "眼睛",
  nose: "鼻子",
  mouth: "嘴",
  jaw: "下颌",
  "inner brow": "眉头",
  "outer brow": "眉梢",
  "upper eyelid": "上眼睑",
  "lower eyelid": "下眼睑",
  cheek: "脸颊",
  "side of the nose": "鼻翼",
  "corner of the mouth": "嘴角",
  "upper lip": "上唇",
  "lower lip": "下唇",
  chin: "下巴",
  "the whole face": "整张脸",
  Add: "添加",
  "add this face to the list": "把这张脸加入列表",
  "what is drawn, in this order": "按此顺序绘制的内容",
  "All basic ones": "全部基本表情",
  None: "清空",
  "earlier: {0}": "前移：{0}",
  "later: {0}": "后移：{0}",
  "take out {0}": "移除 {0}",
  report: "报告"
};

// src/words.js
var BOOKS = { ja: words_ja_default, ko: words_ko_default, zh: words_zh_default };
function say(words, ...parts) {
  const book = BOOKS[app.extensionManager?.setting.get("Comfy.Locale")] ?? {};
  return (book[words] ?? words).replace(/\{(\d)\}/g, (_, number) => parts[number]);
}

// src/head.js
var FOLDER = new URL("../head/", import.meta.url);
var TYPES = { uint8: Uint8Array, uint16: Uint16Array, int16: Int16Array };
var loading;
function loadHead() {
  loading ??= load().catch((error) => {
    loading = void 0;
    throw error;
  });
  return loading;
}
async function load() {
  const table = await (await fetched("vocabulary.json")).json();
  const canvas = document.createElement("canvas");
  const options = { alpha: true, antialias: true, premultipliedAlpha: true };
  if (!canvas.getContext("webgl2", options)) {
    return { table, head: null, why: say("This browser has no WebGL: the head cannot be drawn. All controls work without it.") };
  }
  const entries = await (await fetched("head.json")).json();
  const data = await (await fetched("head.bin")).arrayBuffer();
  return { table, head: new Head(canvas, unpacked(entries.arrays, data)) };
}
async function fetched(name) {
  const answer = await fetch(new URL(name, FOLDER));
  if (!answer.ok) throw new Error(`${name}: ${answer.status} ${answer.statusText}`);
  return answer;
}
function unpacked(entries, data) {
  const arrays = {};
  for (const { name, type, shape, offset, scale: scale5 } of entries) {
    const values = new TYPES[type](data, offset, shape.reduce((a, b) => a * b, 1));
    arrays[name] = scale5 === 1 ? values : Float32Array.from(values, (value) => value * scale5);
  }
  return arrays;
}
var Head = class {
  constructor(canvas, arrays) {
    this.canvas = canvas;
    this.rest = arrays.position;
    this.place = arrays.place;
    this.material = arrays.material;
    this.triangles = arrays.triangles;
    this.shapes = {};
    for (const name of Object.keys(arrays).filter((name2) => name2.endsWith(".moves"))) {
      const shape = name.slice(0, -".moves".length);
      this.shapes[shape] = { vertices: arrays[`${shape}.vertices`], moves: arrays[name] };
    }
    this.arrays = arrays;
    this.position = this.rest.slice();
    this.normal = new Float32Array(this.rest.length);
    this.restored = [];
    this.build();
    canvas.addEventListener("webglcontextlost", (event) => event.preventDefault());
    canvas.addEventListener("webglcontextrestored", () => {
      this.build();
      this.restored.forEach((redraw2) => redraw2());
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
      index: { data: triangles }
    });
    const program = new Program(gl, { vertex: paint_vertex_default, fragment: paint_fragment_default });
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
    this.camera.position.set(0, near ? -2e-3 : 0.012, 0.78);
    this.mesh.rotation.x = -Math.PI / 2;
    this.scene.rotation.set(turn.pitch, turn.yaw, 0);
    this.renderer.render({ scene: this.scene, camera: this.camera });
    const context = canvas.getContext("2d");
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
      const distance2 = (px - x) ** 2 + (pz - z) ** 2 + (py > -0.09 || this.material[i] ? 1 : 0) + 1e-4 * (py + 0.2);
      if (distance2 < least) [best, least] = [i, distance2];
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
    for (let i = 0; i < normal.length; i += 3) {
      const length3 = Math.hypot(normal[i], normal[i + 1], normal[i + 2]) || 1;
      for (let axis = 0; axis < 3; axis++) normal[i + axis] /= length3;
    }
    this.geometry.attributes.position.needsUpdate = true;
    this.geometry.attributes.normal.needsUpdate = true;
  }
};

// src/idle.js
var CONTEXT_SITE = "cross_attention_difference";
var RECORDED = ["window_low", "window_high", "tokens", "levels"];
var wordsAlone = ({ is, linked }) => is("site", linked("photo") ? [CONTEXT_SITE] : ["default", CONTEXT_SITE]);
var noFusion = ({ linked }) => !linked("features") && !linked("base_model");
var IDLE = {
  FaceExprExtractExpressionFeatures: {
    photo_neutral: ({ linked }) => !linked("photo") || linked("neutral_photo"),
    ...Object.fromEntries(RECORDED.map((name) => [name, wordsAlone]))
  },
  FaceExprSampler: {
    expression_scale: ({ linked, is }) => !linked("neutral") && is("expression_scale", [1]),
    fusion_strength: noFusion,
    fusion_text: (inputs) => noFusion(inputs) || !inputs.linked("neutral"),
    refine_below: ({ linked, is }) => !linked("vae") && is("refine_below", [0]),
    refine_denoise: ({ linked, is }) => !linked("vae") || is("refine_below", [0])
  },
  FaceExprExpressionSheet: { fusion_strength: ({ linked }) => !linked("base_model") },
  FaceExprLoadSubjectImages: { padding: ({ is }) => is("framing", ["whole picture"]) }
};
function hideIdle(node, name) {
  const rules = IDLE[name];
  if (!rules) return;
  const update = (isNew = false) => show(node, rules, isNew);
  for (const widget of node.widgets ?? []) chain(widget, "callback", () => update());
  chain(node, "onConfigure", () => update());
  chain(node, "onConnectionsChange", () => update());
  update(true);
}
function show(node, rules, isNew) {
  const slot = (name) => (node.inputs ?? []).findIndex((input) => input.name === name);
  const linked = (name) => slot(name) >= 0 && node.isInputConnected(slot(name));
  const find = (name) => node.widgets.find((widget) => widget.name === name);
  const is = (name, values) => !linked(name) && values.includes(find(name)?.value);
  const isIdle = (name) => !linked(name) && rules[name]({ linked, is });
  const changed = Object.keys(rules).filter((name) => find(name) && Boolean(find(name).hidden) !== isIdle(name));
  if (!changed.length) return;
  const tight = isNew || node.size[1] <= node.computeSize()[1];
  for (const widget of changed.map(find)) hide(widget, !widget.hidden);
  const height = node.computeSize()[1];
  node.setSize([node.size[0], tight ? height : Math.max(node.size[1], height)]);
  redraw(node);
}
function hide(widget, hidden) {
  widget.hidden = hidden;
  (widget.options ??= {}).hidden = hidden;
  if (hidden) widget.computeSize = () => [0, -4];
  else delete widget.computeSize;
}
function redraw(node) {
  node.setDirtyCanvas?.(true, true);
  if (!LiteGraph.vueNodesMode || !node.graph) return;
  const watches = (list) => Object.getOwnPropertyDescriptor(node, list)?.get;
  if (watches("inputs")) {
    const all = [...node.widgets];
    node.widgets = [];
    node.widgets = all;
  } else {
    node.graph.onNodeAdded?.(node);
  }
}

// src/vocabulary.js
var NONE = "none";
var CODE = /^(?:AU)?\s*(?:([LR])\s*)?(\d+)$/i;
function parseUnits(text, table) {
  const units = /* @__PURE__ */ new Map();
  for (const part of text.split(/[+,;]/).filter((part2) => part2.trim())) {
    const [written, number = "1", ...more] = part.split(":");
    const match = CODE.exec(written.trim());
    const code = match && (match[1] ?? "").toUpperCase() + Number(match[2]);
    const strength = number.trim() ? Number(number) : NaN;
    if (!(code in table.action_units) || more.length || !(strength > 0 && strength <= 1)) return null;
    if (units.has(code) && units.get(code) !== strength) return null;
    units.set(code, strength);
  }
  return units;
}
function formatUnits(units) {
  const written = [...units].map(([code, strength]) => {
    const name = /^\d/.test(code) ? `AU${code}` : code;
    return strength === 1 ? name : `${name}:${strength}`;
  });
  return written.join("+");
}
function isSided(number, table) {
  const shapes = (code) => Object.keys(table.action_units[code].blendshapes).join();
  return shapes(`L${number}`) !== shapes(`R${number}`);
}
function hasBothSides(number) {
  return number !== 46;
}
function strengthOf(units, number, side = "") {
  const plain2 = units.get(String(number)) ?? 0;
  const both = hasBothSides(number) ? [plain2, plain2] : [plain2, 0];
  const [left, right] = [Math.max(units.get(`L${number}`) ?? 0, both[0]), Math.max(units.get(`R${number}`) ?? 0, both[1])];
  return side === "L" ? left : side === "R" ? right : Math.max(left, right);
}
function withStrength(units, number, side, strength) {
  const value = Math.round(Math.min(Math.max(strength, 0), 1) * 100) / 100;
  const left = side === "R" ? strengthOf(units, number, "L") : value;
  const right = side === "L" ? strengthOf(units, number, "R") : value;
  const next = new Map(units);
  const entries = left === right && hasBothSides(number) ? [[`${number}`, left]] : [[`L${number}`, left], [`R${number}`, right]];
  for (const code of [`${number}`, `L${number}`, `R${number}`]) {
    if (!entries.some(([kept, amount]) => kept === code && amount > 0)) next.delete(code);
  }
  for (const [code, amount] of entries) if (amount > 0) next.set(code, amount);
  return next;
}
function blendshapesOf(values, table) {
  const total = {};
  const add5 = (shapes, strength) => {
    for (const [shape, weight] of Object.entries(shapes)) total[shape] = (total[shape] ?? 0) + strength * weight;
  };
  add5(table.expressions[values.expression]?.blendshapes ?? {}, values.intensity);
  add5(table.expressions[values.second_expression]?.blendshapes ?? {}, values.second_weight);
  const strongest2 = {};
  for (const [code, strength] of parseUnits(values.action_units, table) ?? []) {
    for (const [shape, weight] of Object.entries(table.action_units[code].blendshapes)) {
      strongest2[shape] = Math.max(strongest2[shape] ?? 0, strength * weight);
    }
  }
  add5(strongest2, values.intensity);
  for (const shape of Object.keys(total)) total[shape] = Math.min(total[shape], table.max_weight);
  return total;
}
function describe(values, table) {
  const parts = [];
  if (values.expression !== NONE) parts.push([say(values.expression), values.intensity]);
  if (values.second_expression !== NONE && values.second_weight > 0) parts.push([say(values.second_expression), values.second_weight]);
  const units = parseUnits(values.action_units, table);
  for (const [code, strength] of units ?? []) parts.push([unitWords(code, table), strength * values.intensity]);
  const words = parts.map(([phrase, strength]) => `${phrase} ${strength.toFixed(2)}`);
  if (!units) words.push(say("action_units cannot be read: {0}", values.action_units));
  return words.join(", ") || say("no expression");
}
function unitWords(code, table) {
  const phrase = say(table.action_units[code.replace(/^[LR]/, "")].phrase);
  if (code.startsWith("L")) return say("{0} on the left side", phrase);
  return code.startsWith("R") ? say("{0} on the right side", phrase) : phrase;
}

// src/entries.js
var ALL = "all";
function basic(table) {
  return Object.keys(table.expressions).filter((name) => !table.expressions[name].parts.length);
}
function parseEntries(text, table) {
  const found = /* @__PURE__ */ new Set();
  for (const part of text.split(/[,;\n]/)) {
    const entry = part.trim().split(/\s+/).join(" ");
    const name = entry.replaceAll("_", " ").toLowerCase();
    if (name === ALL) basic(table).forEach((one) => found.add(one));
    else if (entry) found.add(name in table.expressions ? name : table.words[name] ?? entry);
  }
  return [...found];
}
function formatEntries(entries, table) {
  const written = entries.join(", ");
  return written === basic(table).join(", ") ? ALL : written;
}
function lookOf(entry, table) {
  const named = entry in table.expressions;
  return { expression: named ? entry : "none", action_units: named ? "" : entry };
}
function isReadable(entry, table) {
  return entry in table.expressions || Boolean(parseUnits(entry, table)?.size);
}
function strongest(text, table) {
  const numbers = text.split(/[,;]/).filter((part) => part.trim()).map(Number);
  return numbers.length && numbers.every((one) => one >= 0 && one <= table.max_weight) ? Math.max(...numbers) : 1;
}

// src/faces.js
var SIZE = 112;
var pictures = /* @__PURE__ */ new Map();
async function drawFaces(head, table, ready) {
  const canvas = element("canvas", { width: SIZE, height: SIZE });
  for (const name of [NONE, ...Object.keys(table.expressions)]) {
    if (!pictures.has(name)) {
      head.draw(canvas, table.expressions[name]?.blendshapes ?? {}, void 0, true);
      pictures.set(name, canvas.toDataURL());
      await new Promise((resume) => setTimeout(resume));
    }
    ready(name, pictures.get(name));
  }
}
function faceOf(name, input) {
  const picture = element("img", { alt: "", width: SIZE / 2, height: SIZE / 2, draggable: "false" });
  return { input, picture, label: element("label", { class: "fx-face", title: name }, input, picture, element("span", {}, say(name))) };
}
var editors = 0;
function makeFaces(values, table, note2) {
  const group = `fx-faces-${++editors}`;
  let which = "expression";
  const faces = [NONE, ...Object.keys(table.expressions)].map((name) => {
    const radio = element("input", { type: "radio", name: group, value: name, onchange: () => values.change({ [which]: name }) });
    const { label, picture } = faceOf(name, radio);
    label.addEventListener("click", (event) => {
      if (!event.shiftKey || !values.has("second_expression")) return;
      event.preventDefault();
      values.change({ second_expression: name });
    });
    return { name, radio, label, picture };
  });
  const grid = element("div", { class: "fx-grid", role: "radiogroup", ...note2.explains }, ...faces.map((face) => face.label));
  const choice = element("div", { class: "fx-choice", role: "group", "aria-label": say("a click chooses") });
  for (const [name, text] of [["expression", say("Expression")], ["second_expression", say("Second, to blend")]]) {
    if (values.has("second_expression")) choice.append(element("button", { "data-which": name, onclick: () => turn(name) }, text));
  }
  function turn(name) {
    which = name;
    grid.setAttribute("aria-label", say(name.replace("_", " ")));
    for (const button of choice.children) button.setAttribute("aria-pressed", button.dataset.which === name);
    show3(values.read());
  }
  function show3(now) {
    for (const { name, radio, label } of faces) {
      radio.checked = now[which] === name;
      radio.disabled = values.isLinked(which);
      label.classList.toggle("fx-first", now.expression === name);
      label.classList.toggle("fx-second", now.second_expression === name && name !== NONE);
    }
  }
  turn(which);
  return {
    root: element("div", {}, choice, grid),
    show: show3,
    picture: (name, address) => faces.find((face) => face.name === name).picture.src = address
  };
}

// src/links.js
var notes = 0;
function makeNote(values) {
  const root = element("p", { class: "fx-linked", id: `fx-linked-${++notes}`, role: "status" });
  return {
    root,
    explains: { "aria-describedby": root.id },
    show() {
      const names = values.linked().join(", ");
      const text = names && say("By a link, neither set nor shown here: {0}", names);
      if (root.textContent !== text) root.textContent = text;
    }
  };
}

// src/regions.js
var HANDLES = [
  { name: "inner brow", x: 0.014, z: 0.744, up: [1], down: [4] },
  { name: "outer brow", x: 0.043, z: 0.746, up: [2], down: [4] },
  { name: "upper eyelid", x: 0.032, z: 0.729, up: [5], down: [43] },
  { name: "lower eyelid", x: 0.032, z: 0.714, up: [7], down: [] },
  { name: "cheek", x: 0.045, z: 0.692, up: [6], down: [] },
  { name: "side of the nose", x: 0.016, z: 0.694, up: [9], down: [] },
  { name: "corner of the mouth", x: 0.024, z: 0.665, up: [12], down: [15], out: [20], in: [14] },
  { name: "upper lip", x: 8e-3, z: 0.671, up: [10], down: [24] },
  { name: "lower lip", x: 0, z: 0.656, up: [23], down: [25] },
  { name: "chin", x: 0, z: 0.622, up: [17], down: [26, 27] }
];
var REACH = 0.07;
var FULL = 0.25;
var SIDEWAYS_FROM = 0.05;
function handlesOf(head) {
  return HANDLES.flatMap((handle) => {
    const sides = handle.x ? ["L", "R"] : [""];
    return sides.map((side) => ({ ...handle, side, vertex: head.vertexAt(side === "R" ? -handle.x : handle.x, handle.z) }));
  });
}
function handleNear(handles, head, point, aspect) {
  const distance2 = (handle) => {
    const spot = head.spot(handle.vertex);
    return Math.hypot((spot.x - point.x) * aspect, spot.y - point.y);
  };
  const near = handles.map((handle) => [distance2(handle), handle]).filter(([away]) => away < REACH);
  return near.sort(([a], [b]) => a - b)[0]?.[1];
}
function pulled(handle, from, right, down) {
  const outwards = handle.side === "R" ? -right : right;
  const sideways = Math.sign(outwards) * Math.max(Math.abs(outwards) - SIDEWAYS_FROM, 0);
  return { ...along(handle.up, handle.down, from, -down), ...along(handle.out ?? [], handle.in ?? [], from, sideways) };
}
function along(forth, back, from, way) {
  const reach = (numbers) => Math.max(0, ...numbers.map(from));
  const start = reach(forth) || -reach(back);
  const at = Math.min(Math.max(start + way / FULL, -1), 1);
  return { ...shares(forth, Math.max(at, 0)), ...shares(back, Math.max(-at, 0)) };
}
function shares(numbers, amount) {
  if (numbers.length < 2) return Object.fromEntries(numbers.map((number) => [number, amount]));
  const [first, second] = numbers;
  return amount <= 0.5 ? { [first]: 2 * amount, [second]: 0 } : { [first]: 0, [second]: amount };
}

// src/stage.js
var TURN = { yaw: 0.7, pitch: 0.35 };
var gone = new FinalizationRegistry((forget) => forget());
function makeStage(values, table, head, isOneSided) {
  const canvas = element("canvas", { class: "fx-head", role: "img" });
  const mark = element("div", { class: "fx-mark", hidden: true });
  const root = element("div", { class: "fx-stage" }, canvas, mark);
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
  function redraw2() {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(draw);
  }
  const aspect = () => canvas.clientWidth / canvas.clientHeight;
  const pointOf = (event) => {
    const box = canvas.getBoundingClientRect();
    return { x: (event.clientX - box.left) / box.width, y: (event.clientY - box.top) / box.height };
  };
  const canPull = () => values.has("action_units") && !values.isLinked("action_units");
  const find = (point) => canPull() && head ? locate(point) : void 0;
  function locate(point) {
    head.draw(canvas, blendshapesOf(values.read(), table), turn);
    return handleNear(handles, head, point, aspect());
  }
  function showMark(handle) {
    mark.hidden = !handle;
    root.classList.toggle("fx-pulling", Boolean(handle));
    if (!handle) return;
    const spot = head.spot(handle.vertex);
    mark.style.left = `${100 * spot.x}%`;
    mark.style.top = `${100 * spot.y}%`;
    mark.title = say(handle.name);
  }
  canvas.addEventListener("pointerdown", (event) => {
    if (!head || event.button) return;
    canvas.setPointerCapture(event.pointerId);
    const from = pointOf(event);
    const units = parseUnits(values.read().action_units, table) ?? /* @__PURE__ */ new Map();
    hold = { from, units, handle: find(from), turn: { ...turn } };
  });
  canvas.addEventListener("pointermove", (event) => {
    const point = pointOf(event);
    if (!hold) return showMark(find(point));
    const [right, down] = [(point.x - hold.from.x) * aspect(), point.y - hold.from.y];
    if (hold.handle) pull(right, down, isOneSided() || event.shiftKey);
    else {
      turn.yaw = limit(hold.turn.yaw + 2 * right, TURN.yaw);
      turn.pitch = limit(hold.turn.pitch + 2 * down, TURN.pitch);
      redraw2();
    }
  });
  canvas.addEventListener("lostpointercapture", () => {
    const pulling = hold?.handle;
    hold = null;
    if (pulling) values.rest();
  });
  canvas.addEventListener("pointerleave", () => hold || showMark(void 0));
  canvas.addEventListener("dblclick", () => {
    Object.assign(turn, { yaw: 0, pitch: 0 });
    redraw2();
  });
  new ResizeObserver(redraw2).observe(canvas);
  if (head) redrawWhenRestored(head, redraw2);
  function pull(right, down, oneSided) {
    const { handle } = hold;
    const side = oneSided ? handle.side : "";
    let { units } = hold;
    for (const [number, strength] of Object.entries(pulled(handle, (n) => strengthOf(units, n, side), right, down))) {
      units = withStrength(units, Number(number), side, strength);
    }
    values.set({ action_units: formatUnits(units) });
    showMark(handle);
  }
  return { root, canvas, redraw: redraw2 };
}
function redrawWhenRestored(head, redraw2) {
  const held = new WeakRef(redraw2);
  const again = () => held.deref()?.();
  head.restored.push(again);
  gone.register(redraw2, () => head.restored.splice(head.restored.indexOf(again), 1));
}
function limit(value, most) {
  return Math.min(Math.max(value, -most), most);
}

// src/units.js
function makeUnits(values, table, note2) {
  const sideWords = { "": "", L: say(", left"), R: say(", right") };
  const rows = [];
  const seen = /* @__PURE__ */ new Set();
  const groups = Object.entries(table.regions).map(([region, numbers]) => {
    const own = numbers.filter((number) => !seen.has(number));
    own.forEach((number) => seen.add(number));
    return element("fieldset", {}, element("legend", {}, say(region)), ...own.flatMap((number) => rowsOf(number)));
  });
  const apart = element("input", { type: "checkbox", onchange: () => show3(values.read()) });
  function rowsOf(number) {
    const sides = !isSided(number, table) ? [""] : hasBothSides(number) ? ["", "L", "R"] : ["L", "R"];
    return sides.map((side) => {
      const made = slider({
        label: `${number} ${say(table.action_units[number].phrase)}${sideWords[side]}`,
        max: 1,
        move: (strength) => {
          const units = parseUnits(values.read().action_units, table) ?? /* @__PURE__ */ new Map();
          values.set({ action_units: formatUnits(withStrength(units, number, side, strength)) });
        },
        done: () => values.rest()
      });
      rows.push({ ...made, number, side, alone: sides.length < 3 });
      return made.root;
    });
  }
  const show3 = (now) => {
    const units = parseUnits(now.action_units, table) ?? /* @__PURE__ */ new Map();
    const disabled = values.isLinked("action_units");
    const held = rows.find(({ input, side }) => side && input === document.activeElement)?.number;
    for (const row of rows) {
      const uneven = strengthOf(units, row.number, "L") !== strengthOf(units, row.number, "R");
      row.root.hidden = !row.alone && row.side === "" === (apart.checked || uneven || held === row.number);
      row.set(strengthOf(units, row.number, row.side), disabled);
    }
  };
  const group = { class: "fx-units", role: "group", "aria-label": say("Muscles"), ...note2?.explains };
  return {
    root: element("div", group, element("label", {}, apart, ` ${say("left and right apart (the person’s own)")}`), ...groups),
    show: show3
  };
}

// src/circumplex.js
var DEGREES = { happy: 20, surprised: 75, fearful: 105, angry: 135, disgusted: 165, sad: 210, calm: 300 };
var ANCHORS = Object.entries(DEGREES).map(([name, degrees]) => {
  const angle2 = degrees * Math.PI / 180;
  return { name, valence: Math.cos(angle2), arousal: Math.sin(angle2) };
});
var LEAST = 0.05;
function valuesAt(valence, arousal) {
  for (const [i, one] of ANCHORS.entries()) {
    const other = ANCHORS[(i + 1) % ANCHORS.length];
    const area = one.valence * other.arousal - other.valence * one.arousal;
    const a = (valence * other.arousal - other.valence * arousal) / area;
    const b = (one.valence * arousal - valence * one.arousal) / area;
    if (a < -1e-9 || b < -1e-9) continue;
    const parts = [[one.name, a], [other.name, b]].map(([name, strength]) => [name, Math.round(100 * Math.min(strength, 1.5)) / 100]).filter(([name, strength]) => name !== "calm" && strength >= LEAST).sort(([, a2], [, b2]) => b2 - a2);
    const [[expression, intensity] = ["neutral", 1], [second, weight] = [NONE, 0.5]] = parts;
    return { expression, intensity, second_expression: second, second_weight: weight };
  }
  return { expression: "neutral", intensity: 1, second_expression: NONE, second_weight: 0.5 };
}
function placeOf(values) {
  const place = { valence: 0, arousal: 0 };
  for (const [name, strength] of [[values.expression, values.intensity], [values.second_expression, values.second_weight]]) {
    if (name === NONE || name === "neutral") continue;
    const anchor = ANCHORS.find((anchor2) => anchor2.name === name);
    if (!anchor) return null;
    place.valence += strength * anchor.valence;
    place.arousal += strength * anchor.arousal;
  }
  return place;
}

// src/pad.js
var INSET = 0.78;
var SETS = ["expression", "intensity", "second_expression", "second_weight"];
function makePad(values, note2) {
  const isLinked = () => SETS.some((name) => values.isLinked(name));
  const point = element("div", { class: "fx-point" });
  const words = ANCHORS.map(({ name, valence: valence2, arousal: arousal2 }) => element("span", { style: `left: ${50 + 50 * INSET * valence2}%; top: ${50 - 50 * INSET * arousal2}%` }, say(name)));
  const plane = element("div", { class: "fx-plane", "aria-hidden": "true" }, ...words, point);
  let place = { valence: 0, arousal: 0 };
  const go = (valence2, arousal2) => {
    if (isLinked()) return;
    place = { valence: valence2, arousal: arousal2 };
    values.set(valuesAt(valence2, arousal2));
  };
  const follow = (event) => {
    const box = plane.getBoundingClientRect();
    const along2 = (at, start, size) => Math.min(Math.max(2 * (at - start) / size - 1, -1), 1) / INSET;
    go(along2(event.clientX, box.left, box.width), -along2(event.clientY, box.top, box.height));
  };
  plane.addEventListener("pointerdown", (event) => {
    if (isLinked()) return;
    plane.setPointerCapture(event.pointerId);
    follow(event);
  });
  plane.addEventListener("pointermove", (event) => plane.hasPointerCapture(event.pointerId) && follow(event));
  plane.addEventListener("lostpointercapture", () => values.rest());
  const axis = (label, move) => {
    const made = slider({ label, max: 1.25, move, done: () => values.rest() });
    made.input.min = -1.25;
    return made;
  };
  const valence = axis(say("valence (unpleasant to pleasant)"), (to) => go(to, place.arousal));
  const arousal = axis(say("arousal (calm to excited)"), (to) => go(place.valence, to));
  const group = { class: "fx-pad", role: "group", "aria-label": say("Feeling"), ...note2.explains };
  const root = element("div", group, plane, valence.root, arousal.root);
  return {
    root,
    show(now) {
      const found = placeOf(now);
      point.hidden = !found;
      const same = JSON.stringify(valuesAt(place.valence, place.arousal)) === JSON.stringify(pick(now));
      if (found && !same) place = found;
      point.style.left = `${50 + 50 * INSET * place.valence}%`;
      point.style.top = `${50 - 50 * INSET * place.arousal}%`;
      const disabled = isLinked();
      root.setAttribute("aria-disabled", disabled);
      valence.set(place.valence, disabled);
      arousal.set(place.arousal, disabled);
    }
  };
}
function pick(values) {
  return Object.fromEntries(SETS.map((name) => [name, values[name]]));
}

// src/presets.js
import { api } from "../../../scripts/api.js";
import { app as app2 } from "../../../scripts/app.js";
var SETTING = "FaceExpr.ExpressionPresets";
var CHANGED = "fx-presets-changed";
var stored = () => app2.extensionManager.setting.get(SETTING) ?? [];
var writing = Promise.resolve();
function write(change) {
  const written = writing.then(async () => {
    const wanted = change(await api.getSetting(SETTING) ?? []);
    await app2.extensionManager.setting.set(SETTING, wanted);
    if (JSON.stringify(await api.getSetting(SETTING)) !== JSON.stringify(wanted)) throw new Error(say("it is not there when read again"));
    for (const panel of document.querySelectorAll(".fx-presets")) panel.dispatchEvent(new Event(CHANGED));
  });
  writing = written.catch(() => {
  });
  return written;
}
function makePresets(values, table, note2) {
  const name = element("input", { type: "text", placeholder: say("name of this expression"), "aria-label": say("name of this expression") });
  const list = element("ul", {});
  const told = element("p", { role: "status" });
  const form = element("form", { onsubmit: save }, name, element("button", { type: "submit" }, say("Keep")));
  async function tried(change) {
    try {
      await write(change);
      return true;
    } catch (reason) {
      told.textContent = say("ComfyUI could not keep that: {0}", reason?.message ?? reason);
      return false;
    }
  }
  async function save(event) {
    event.preventDefault();
    const chosen = name.value.trim();
    if (!chosen) {
      told.textContent = say("Give it a name first.");
      return;
    }
    const kept = { name: chosen, values: values.read() };
    let there = false;
    const done = await tried((presets) => {
      there = presets.some((preset) => preset.name === chosen);
      return there ? presets : [...presets, kept];
    });
    if (!done) return;
    if (there) {
      told.textContent = say("“{0}” is there already: choose another name, or delete it first.", chosen);
      return;
    }
    told.textContent = say("Kept “{0}”.", chosen);
    name.value = "";
  }
  function row(preset) {
    const words = describe(preset.values, table);
    const canSet = values.settable(preset.values).length > 0;
    const forget = () => tried((presets) => presets.filter((other) => other.name !== preset.name));
    return element(
      "li",
      {},
      element("button", { title: words, disabled: !canSet, onclick: () => values.change(preset.values), ...note2.explains }, preset.name),
      element("span", {}, words),
      element("button", { "aria-label": say("delete {0}", preset.name), onclick: forget }, "✕")
    );
  }
  const show3 = () => replaceRows(list, stored().map(row), () => name);
  return { root: element("div", { class: "fx-presets", [`on${CHANGED}`]: show3 }, form, told, list), show: show3, opened: show3 };
}

// src/widget.js
function makeEditor(values, { table, head, why }) {
  const oneSided = switchButton();
  const note2 = makeNote(values);
  const { undo, redo, showSteps } = undoButtons(values, note2);
  const rest = element("button", { title: say("a neutral face"), onclick: () => values.change(NEUTRAL), ...note2.explains }, say("Neutral"));
  const stage = makeStage(values, table, head, () => oneSided.getAttribute("aria-pressed") === "true");
  const words = element("p", { class: "fx-words", role: "status", "aria-live": "polite", ...SCROLLS });
  const strengths = ["intensity", "second_weight"].filter((name) => values.has(name)).map((name) => {
    const move = (value) => values.set({ [name]: value });
    return { name, ...slider({ label: say(name.replace("_", " ")), max: table.max_weight, move, done: () => values.rest() }) };
  });
  const panels = [[say("Faces"), makeFaces(values, table, note2)]];
  if (values.has("second_expression")) panels.push([say("Feeling"), makePad(values, note2)]);
  if (values.has("action_units")) panels.push([say("Muscles"), makeUnits(values, table, note2)]);
  if (values.has("intensity")) panels.push([say("Mine"), makePresets(values, table, note2)]);
  const tools = values.has("action_units") ? [oneSided, rest] : [rest];
  const left = element(
    "div",
    { class: "fx-left" },
    element("div", { class: "fx-view" }, head ? stage.root : element("p", { class: "fx-missing", role: "alert" }, why), note2.root),
    element("div", { class: "fx-tools", role: "toolbar", "aria-label": say("expression editor") }, undo, redo, ...tools),
    words,
    ...strengths.map((strength) => strength.root)
  );
  const root = element("div", { class: "fx-body" }, left, tabs(panels));
  function show3(now) {
    for (const { name, set: set6 } of strengths) set6(now[name], values.isLinked(name));
    for (const [, panel] of panels) panel.show(now);
    note2.show();
    showSteps();
    rest.disabled = !values.settable(NEUTRAL).length;
    words.textContent = values.has("intensity") ? describe(now, table) : wholeFaceOr(now.expression);
    stage.canvas.setAttribute("aria-label", say("face: {0}", words.textContent));
    stage.redraw();
  }
  keepToItself(root, values);
  values.onChange((now) => keepFocus(root, () => show3(now)));
  show3(values.read());
  if (head) drawFaces(head, table, panels[0][1].picture);
  return { root, blendshapes: () => blendshapesOf(values.read(), table) };
}
var wholeFaceOr = (name) => name === NONE ? say("the whole face") : say(name);
var NEUTRAL = { expression: "neutral", intensity: 1, second_expression: "none", action_units: "" };
function keepToItself(root, values) {
  root.addEventListener("keydown", (event) => {
    const key = event.key.toLowerCase();
    if (!event.ctrlKey && !event.metaKey) event.stopPropagation();
    else if ((key === "z" || key === "y") && event.target.matches("input:not([type=text])")) {
      event.preventDefault();
      if (key === "y" || event.shiftKey) values.redo();
      else values.undo();
    }
  });
  for (const kind of ["pointerdown", "pointermove", "pointerup", "mousedown", "dblclick"]) root.addEventListener(kind, (event) => event.stopPropagation());
}
var SCROLLS = { "data-capture-wheel": "true" };
function switchButton() {
  const turn = () => button.setAttribute("aria-pressed", button.getAttribute("aria-pressed") !== "true");
  const button = element("button", { "aria-pressed": "false", title: say("pull one side only (or hold Shift)"), onclick: turn }, say("One side"));
  return button;
}
function undoButtons(values, note2) {
  const undo = element("button", { title: say("undo"), "aria-label": say("undo"), onclick: () => values.undo(), ...note2.explains }, "↶");
  const redo = element("button", { title: say("redo"), "aria-label": say("redo"), onclick: () => values.redo(), ...note2.explains }, "↷");
  const showSteps = () => {
    undo.disabled = !values.canUndo();
    redo.disabled = !values.canRedo();
  };
  return { undo, redo, showSteps };
}
function tabs(panels) {
  const list = element("div", { class: "fx-tabs", role: "tablist" });
  const root = element("div", { class: "fx-right" }, list);
  const open = (name) => {
    for (const tab of list.children) {
      const chosen = tab.dataset.name === name;
      tab.setAttribute("aria-selected", chosen);
      tab.tabIndex = chosen ? 0 : -1;
      tab.panel.hidden = !chosen;
      if (chosen) tab.opened?.();
    }
  };
  for (const [name, { root: content, opened }] of panels) {
    const tab = element("button", { role: "tab", "data-name": name, onclick: () => open(name) }, name);
    tab.opened = opened;
    tab.panel = element("div", { class: "fx-panel", role: "tabpanel", "aria-label": name, ...SCROLLS }, content);
    tab.panel.addEventListener("wheel", (event) => event.stopPropagation());
    list.append(tab);
    root.append(tab.panel);
  }
  rove(list, (tab) => open(tab.dataset.name));
  open(panels[0][0]);
  return root;
}

// src/list_editor.js
var LIST = { expressions: "all", intensities: "1.0" };
var Look = class {
  constructor(strength) {
    this.strength = strength;
    this.shown = { expression: "neutral", action_units: "" };
    this.listeners = [];
  }
  has(name) {
    return name in this.shown;
  }
  isLinked() {
    return false;
  }
  read() {
    return { second_expression: "none", second_weight: 0, intensity: this.strength(), ...this.shown };
  }
  set(changes) {
    this.shown = { ...this.shown, ...changes.action_units ? { expression: "none" } : {}, ...changes };
    this.tell();
  }
  rest() {
  }
  tell() {
    for (const listener of this.listeners) listener(this.read());
  }
};
function makeListEditor(values, { table, head, why }) {
  const look = new Look(() => strongest(values.read().intensities, table));
  const entries = () => parseEntries(values.read().expressions, table);
  const write2 = (list2) => values.change({ expressions: formatEntries(list2, table) });
  const toggle = (entry, wanted) => write2(wanted ? [...entries(), entry] : entries().filter((one) => one !== entry));
  const oneSided = switchButton();
  const note2 = makeNote(values);
  const { undo, redo, showSteps } = undoButtons(values, note2);
  const add5 = element("button", { title: say("add this face to the list"), onclick: addFace, ...note2.explains }, say("Add"));
  const stage = makeStage(look, table, head, () => oneSided.getAttribute("aria-pressed") === "true");
  const words = element("p", { class: "fx-words", role: "status", "aria-live": "polite", ...SCROLLS });
  const list = element("ol", { class: "fx-list", "aria-label": say("what is drawn, in this order"), ...SCROLLS });
  const ticks = makeTicks();
  const units = makeUnits(look, table);
  function makeTicks() {
    const faces = Object.keys(table.expressions).map((name) => {
      const input = element("input", { type: "checkbox", value: name });
      input.addEventListener("change", () => {
        look.set(lookOf(name, table));
        toggle(name, input.checked);
      });
      return { name, ...faceOf(name, input) };
    });
    const all = element("button", { onclick: () => write2(basic(table)), ...note2.explains }, say("All basic ones"));
    const none = element("button", { onclick: () => write2([]), ...note2.explains }, say("None"));
    const group = { class: "fx-grid", role: "group", "aria-label": say("Faces"), ...note2.explains };
    const grid = element("div", group, ...faces.map((face) => face.label));
    return {
      root: element("div", {}, element("div", { class: "fx-choice" }, all, none), grid),
      picture: (name, address) => faces.filter((face) => face.name === name).forEach((face) => face.picture.src = address),
      show(chosen, disabled) {
        all.disabled = none.disabled = disabled;
        for (const { name, input, label } of faces) {
          const place = chosen.indexOf(name);
          input.checked = place >= 0;
          input.disabled = disabled;
          label.classList.toggle("fx-first", place >= 0);
          label.dataset.place = place >= 0 ? place + 1 : "";
        }
      }
    };
  }
  function row(entry, place, all, disabled) {
    const name = nameOf3(entry);
    const move = (by) => () => {
      const next = all.filter((one) => one !== entry);
      next.splice(place + by, 0, entry);
      write2(next);
      const there = list.children[place + by];
      (there.querySelector(`[data-by="${by}"]:enabled`) ?? there.querySelector("button")).focus();
    };
    const arrow = (by, sign, text) => element("button", { "data-by": by, "aria-label": text, disabled: disabled || !all[place + by], onclick: move(by) }, sign);
    return element(
      "li",
      { class: isReadable(entry, table) ? "" : "fx-wrong" },
      element("button", { class: "fx-name", onclick: () => look.set(lookOf(entry, table)) }, name),
      arrow(-1, "↑", say("earlier: {0}", name)),
      arrow(1, "↓", say("later: {0}", name)),
      element("button", { "aria-label": say("take out {0}", name), disabled, onclick: () => toggle(entry, false) }, "✕")
    );
  }
  function addFace() {
    toggle(look.shown.action_units, true);
    list.lastElementChild.querySelector("button").focus();
  }
  const nameOf3 = (entry) => entry in table.expressions ? say(entry) : entry;
  function show3() {
    const [chosen, disabled] = [entries(), values.isLinked("expressions")];
    note2.show();
    showSteps();
    ticks.show(chosen, disabled);
    showLook();
    const rows = chosen.map((entry, place) => row(entry, place, chosen, disabled));
    replaceRows(list, rows, () => [add5, undo].find((one) => !one.disabled));
  }
  function showLook() {
    const now = look.read();
    add5.disabled = !now.action_units || values.isLinked("expressions") || entries().includes(now.action_units);
    words.textContent = describe(now, table);
    stage.canvas.setAttribute("aria-label", say("face: {0}", words.textContent));
    units.show(now);
    stage.redraw();
  }
  const left = element(
    "div",
    { class: "fx-left" },
    element("div", { class: "fx-view" }, head ? stage.root : element("p", { class: "fx-missing", role: "alert" }, why), note2.root),
    element("div", { class: "fx-tools", role: "toolbar", "aria-label": say("expression editor") }, undo, redo, oneSided, add5),
    words,
    list
  );
  const root = element("div", { class: "fx-body" }, left, tabs([[say("Faces"), ticks], [say("Muscles"), units]]));
  keepToItself(root, values);
  look.listeners.push(() => keepFocus(root, showLook));
  values.onChange(() => keepFocus(root, show3));
  look.set(lookOf(entries().find((entry) => isReadable(entry, table)) ?? "neutral", table));
  show3();
  if (head) drawFaces(head, table, ticks.picture);
  return { root, blendshapes: () => blendshapesOf(look.read(), table) };
}

// src/node_words.js
import { api as api2 } from "../../../scripts/api.js";
import { app as app3 } from "../../../scripts/app.js";
var books = {};
var wordsOf = (name) => books[app3.extensionManager?.setting.get("Comfy.Locale")]?.nodeDefs?.[name];
var plain = (message) => message.replace(/\{'(.)'\}/g, "$1");
async function loadNodeWords() {
  const answer = await api2.fetchApi("/i18n").catch(() => void 0);
  if (answer?.ok) books = await answer.json();
}
function translateDefinition(definition) {
  const words = wordsOf(definition.name);
  if (!words) return;
  definition.display_name = plain(words.display_name);
  definition.description = plain(words.description);
  for (const [name, [, options]] of Object.values(definition.input ?? {}).flatMap((inputs) => Object.entries(inputs))) {
    if (options?.tooltip && words.inputs?.[name]) options.tooltip = plain(words.inputs[name].tooltip);
  }
  definition.output_tooltips = definition.output_tooltips?.map((tooltip, number) => plain(words.outputs?.[number]?.tooltip ?? tooltip ?? ""));
}
function translateSlots(node, name) {
  const words = wordsOf(name);
  if (!words) return;
  for (const widget of node.widgets ?? []) widget.label = words.inputs?.[widget.name]?.name ?? widget.label;
  for (const slot of node.inputs ?? []) slot.localized_name = words.inputs?.[slot.name]?.name ?? slot.localized_name;
  for (const [number, slot] of (node.outputs ?? []).entries()) slot.localized_name = words.outputs?.[number]?.name ?? slot.localized_name;
}

// src/previews.js
import { app as app4 } from "../../../scripts/app.js";
import { api as api3 } from "../../../scripts/api.js";
var PREVIEW = "$$canvas-image-preview";
var heights = /* @__PURE__ */ new Map();
var over = true;
function watchRuns(isOurs2) {
  api3.addEventListener("execution_start", () => {
    const before = [...heights];
    heights.clear();
    for (const [node, height] of before) shrink(node, height);
  });
  api3.addEventListener("executing", ({ detail }) => {
    const node = runningNode(detail);
    if (!node || !isOurs2(node)) return;
    over = false;
    if (!heights.has(node)) heights.set(node, node.size[1]);
  });
  for (const name of ["execution_success", "execution_error", "execution_interrupted"]) {
    api3.addEventListener(name, () => {
      over = true;
      app4.canvas?.setDirty(true, true);
    });
  }
}
function runningNode(id) {
  let node;
  for (const number of `${id}`.split(":")) node = (node ? node.subgraph : app4.rootGraph ?? app4.graph)?.getNodeById(number);
  return node;
}
function nameOf(node) {
  return node.graph.isRootGraph ? `${node.id}` : `${node.graph.id}:${node.id}`;
}
function showResults(node) {
  chain(node, "onExecuted", (output) => {
    if (!output?.images?.length) return;
    delete app4.nodePreviewImages?.[nameOf(node)];
    node.setDirtyCanvas(true, true);
  });
}
function shrinkAfterRuns(node) {
  chain(node, "onDrawBackground", () => {
    if (over && heights.has(node)) queueMicrotask(() => shrink(node, heights.get(node)));
  });
}
function shrink(node, height) {
  if (!node.graph) return;
  const at = node.widgets?.findIndex((widget) => widget.name === PREVIEW) ?? -1;
  if (at < 0 || app4.nodeOutputs?.[nameOf(node)]?.images?.length) return;
  node.widgets.splice(at, 1)[0].onRemove?.();
  node.imgs = void 0;
  node.setSize([node.size[0], Math.max(height, node.computeSize()[1])]);
  heights.delete(node);
  node.setDirtyCanvas(true, true);
}

// src/reports.js
import { app as app6 } from "../../../scripts/app.js";

// src/said.js
import { app as app5 } from "../../../scripts/app.js";
import { api as api4 } from "../../../scripts/api.js";
var WIDGET = "$$node-text-preview";
var SAID = "faceexpr_said";
var ours = /* @__PURE__ */ new Map();
var LEAST2 = 58;
var MOST = 220;
var [ROW, LETTER, AROUND] = [16, 6, { x: 52, y: 36 }];
var coming = null;
function watchWhatIsSaid() {
  api4.addEventListener(SAID, ({ detail }) => {
    coming = { ...detail, height: onScreen(detail.node)?.size[1] };
  });
  api4.addEventListener("progress_text", ({ detail: { nodeId, text } }) => {
    const said = coming?.node === nodeId && coming.text === text ? coming : null;
    if (said) coming = null;
    queueMicrotask(() => note(nodeId, text, said));
  });
  api4.addEventListener("executing", ({ detail }) => {
    for (const [widget, known] of ours) {
      if (known.by !== `${detail}`) continue;
      ours.delete(widget);
      if (known.node.graph && known.node.widgets?.includes(widget)) shrinkWithout(known);
    }
  });
}
function takeSaidAway(node) {
  const at = node.widgets?.findIndex((widget) => widget.name === WIDGET) ?? -1;
  if (at >= 0) node.widgets.splice(at, 1)[0].onRemove?.();
}
function note(id, text, said) {
  const node = onScreen(id);
  const widget = node?.widgets?.find((one) => one.name === WIDGET);
  if (widget?.value !== text) return;
  const known = ours.get(widget);
  if (said) {
    const before = { height: said.height, grown: 0, serialize: widget.serialize, getMinHeight: widget.options.getMinHeight };
    widget.serialize = false;
    widget.value = text.replaceAll("\n", "  \n");
    widget.options.getMinHeight = () => heightOf(text, node.size[0]);
    const now = { ...before, ...known, node, by: id };
    ours.set(widget, { ...now, grown: Math.max(now.grown, node.computeSize()[1]) });
  } else if (known) {
    ours.delete(widget);
    widget.serialize = known.serialize;
    widget.options.getMinHeight = known.getMinHeight;
  }
}
function heightOf(text, width) {
  const letters = Math.max((width - AROUND.x) / LETTER, 1);
  const rows = text.split("\n").reduce((sum, line) => sum + Math.ceil(line.length / letters), 0);
  return Math.min(Math.max(rows * ROW + AROUND.y, LEAST2), MOST);
}
function onScreen(id) {
  return app5.canvas?.graph?.getNodeById(`${id}`.split(":").at(-1));
}
function shrinkWithout({ node, height, grown }) {
  const asItGrew = node.size[1] <= Math.max(grown, node.computeSize()[1]) + 1;
  takeSaidAway(node);
  if (asItGrew) node.setSize([node.size[0], Math.max(height ?? 0, node.computeSize()[1])]);
  node.setDirtyCanvas(true, true);
}

// src/reports.js
var WIDGET2 = "faceexpr_report";
var THEIRS = "preview_text";
var LEAST3 = 68;
function showReports(node) {
  chain(node, "onExecuted", (output) => show2(node, output));
}
function showReportsAgain(outputs, isOurs2) {
  for (const [place, output] of Object.entries(outputs)) {
    const [number, graph] = place.split(":").reverse();
    const node = (graph ? app6.graph.subgraphs?.get(graph) : app6.graph)?.getNodeById(number);
    if (node && isOurs2(node)) show2(node, output);
  }
}
function show2(node, output) {
  const text = [output?.text ?? []].flat().join("\n");
  if (node.widgets?.some((widget) => widget.name === THEIRS)) return;
  const known = node.widgets?.find((widget) => widget.name === WIDGET2);
  if (text) takeSaidAway(node);
  if (known) known.element.value = text;
  else if (text) add4(node, text);
}
function add4(node, text) {
  const area = element("textarea", { class: "fx-report", readonly: true, "aria-label": say("report"), ...SCROLLS });
  area.addEventListener("wheel", (event) => event.stopPropagation());
  area.value = text;
  const widget = node.addDOMWidget(WIDGET2, "FACEEXPR_REPORT", area, {
    serialize: false,
    hideOnZoom: false,
    margin: 6,
    getValue: () => area.value,
    getMinHeight: () => LEAST3
  });
  widget.serialize = false;
  node.setSize([node.size[0], Math.max(node.size[1], node.computeSize()[1])]);
  node.setDirtyCanvas(true, true);
}

// src/style.css
var style_default = "/* Colours are the page's own variables, so that its light and dark themes serve. */\n.fx-editor {\n    container-type: inline-size;\n    width: 100%;\n    box-sizing: border-box;\n    color: var(--input-text);\n    font: 12px/1.35 Inter, Arial, sans-serif;\n    user-select: none;\n}\n.fx-editor [hidden] { display: none !important; }\n.fx-editor p { margin: 0; }\n.fx-editor button {\n    background: var(--comfy-input-bg);\n    color: var(--input-text);\n    border: 1px solid var(--border-color);\n    border-radius: 6px;\n    padding: 2px 8px;\n    font: inherit;\n    cursor: pointer;\n}\n.fx-editor button:disabled { opacity: 0.4; cursor: default; }\n.fx-editor button[aria-pressed='true'], .fx-editor [role='tab'][aria-selected='true'] { background: var(--fx-accent); color: #fff; border-color: var(--fx-accent); }\n.fx-editor { --fx-accent: #2f6fde; }\n.fx-editor :focus-visible { outline: 2px solid var(--fx-accent); outline-offset: 1px; }\n.fx-editor .fx-toggle { width: 100%; text-align: left; height: 24px; }\n.fx-body { display: flex; flex-direction: column; gap: 8px; padding-top: 6px; }\n.fx-left { display: flex; flex-direction: column; gap: 5px; flex: none; }\n.fx-right { display: flex; flex-direction: column; gap: 5px; flex: 1; min-width: 0; }\n.fx-view { display: flex; flex-direction: column; gap: 5px; max-height: 220px; }\n.fx-stage { position: relative; flex: 0 1 220px; min-height: 0; border-radius: 8px; background: var(--comfy-input-bg); overflow: hidden; }\n.fx-head { width: 100%; height: 100%; display: block; cursor: grab; touch-action: none; }\n.fx-pulling .fx-head { cursor: ns-resize; }\n.fx-mark { position: absolute; width: 14px; height: 14px; margin: -8px; border: 2px solid #fff; border-radius: 50%; box-shadow: 0 0 3px #000; pointer-events: none; }\n.fx-missing { padding: 8px; border: 1px solid var(--border-color); border-radius: 8px; }\n.fx-tools, .fx-tabs, .fx-choice { display: flex; gap: 4px; flex-wrap: wrap; }\n.fx-words { min-height: 2.7em; max-height: 2.7em; overflow: auto; color: var(--descrip-text); }\n.fx-linked { flex: none; padding-left: 6px; border-left: 2px solid var(--fx-accent); }\n.fx-linked:empty { padding: 0; border: 0; margin-top: -5px; } /* hidden, it would not be read out once it says something */\n.fx-slider { display: grid; grid-template-columns: 1fr 1fr 2.6em; gap: 6px; align-items: center; }\n.fx-slider input { width: 100%; min-width: 0; margin: 0; accent-color: var(--fx-accent); }\n.fx-value { text-align: right; font-variant-numeric: tabular-nums; }\n.fx-panel { height: 268px; overflow: auto; }\n.fx-grid { display: grid; grid-template-columns: repeat(auto-fill, minmax(66px, 1fr)); gap: 4px; margin-top: 5px; }\n.fx-face input { position: absolute; opacity: 0; inset: 0; margin: 0; cursor: pointer; }\n.fx-editor .fx-face:has(input:disabled) { opacity: 0.4; }\n.fx-editor .fx-face input:disabled { cursor: default; }\n.fx-face:focus-within { outline: 2px solid var(--fx-accent); outline-offset: 1px; }\n.fx-editor .fx-face { background: var(--comfy-input-bg); border: 1px solid var(--border-color); border-radius: 6px; cursor: pointer; position: relative; display: flex; flex-direction: column; align-items: center; padding: 1px; font-size: 10px; line-height: 1.1; text-align: center; overflow-wrap: anywhere; }\n.fx-face img { width: 56px; height: 56px; }\n.fx-editor .fx-first { border-color: var(--fx-accent); box-shadow: inset 0 0 0 1px var(--fx-accent); }\n.fx-editor .fx-second { border-style: dashed; border-color: var(--fx-accent); }\n/* in a list: the place in it */\n.fx-first[data-place]::after { content: attr(data-place) / ''; position: absolute; top: 1px; right: 4px; color: var(--fx-accent); font-weight: bold; }\n.fx-list { list-style: none; margin: 0; padding: 0; max-height: 76px; overflow: auto; display: flex; flex-direction: column; gap: 2px; }\n.fx-list li { display: flex; gap: 2px; }\n.fx-editor .fx-list button { padding: 0 5px; }\n.fx-editor .fx-list .fx-name { flex: 1; min-width: 0; text-align: left; overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }\n.fx-editor .fx-list .fx-wrong .fx-name { text-decoration: line-through; }\n.fx-second::after { content: '2'; position: absolute; top: 1px; right: 4px; color: var(--fx-accent); font-weight: bold; }\n.fx-pad { display: flex; flex-direction: column; gap: 4px; }\n.fx-plane { position: relative; height: 206px; border: 1px solid var(--border-color); border-radius: 8px; cursor: crosshair; touch-action: none;\n    background: linear-gradient(var(--border-color), var(--border-color)) 50% / 1px 100% no-repeat, linear-gradient(var(--border-color), var(--border-color)) 50% / 100% 1px no-repeat, var(--comfy-input-bg); }\n.fx-pad[aria-disabled='true'] .fx-plane { opacity: 0.4; cursor: default; }\n.fx-plane span { position: absolute; transform: translate(-50%, -50%); color: var(--descrip-text); pointer-events: none; }\n.fx-point { position: absolute; width: 14px; height: 14px; margin: -7px; border-radius: 50%; background: var(--fx-accent); border: 2px solid #fff; box-sizing: border-box; pointer-events: none; }\n.fx-units fieldset { border: 1px solid var(--border-color); border-radius: 8px; margin: 4px 0; padding: 2px 6px 6px; display: flex; flex-direction: column; gap: 3px; }\n.fx-presets form { display: flex; gap: 4px; }\n.fx-presets input { flex: 1; min-width: 0; background: var(--comfy-input-bg); color: var(--input-text); border: 1px solid var(--border-color); border-radius: 6px; padding: 2px 6px; font: inherit; }\n.fx-presets ul { list-style: none; margin: 6px 0; padding: 0; display: flex; flex-direction: column; gap: 4px; }\n.fx-presets li { display: flex; gap: 6px; align-items: center; }\n.fx-presets li span { flex: 1; color: var(--descrip-text); overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }\n@container (min-width: 480px) {\n    .fx-body { flex-direction: row; }\n    .fx-left { width: 220px; }\n}\n.fx-report {\n    width: 100%;\n    height: 100%;\n    min-height: 56px;\n    box-sizing: border-box;\n    resize: none;\n    padding: 4px 6px;\n    background: var(--comfy-input-bg);\n    color: var(--input-text);\n    border: 1px solid var(--border-color);\n    border-radius: 6px;\n    font: 11px/1.4 Inter, Arial, sans-serif;\n}\n";

// src/values.js
import { app as app7 } from "../../../scripts/app.js";
var ONE = { expression: "none", intensity: 1, second_expression: "none", second_weight: 0.5, action_units: "" };
var STEPS_KEPT = 100;
var Values = class {
  /** `defaults`: the widgets that are meant, with what counts where a node has them not. */
  constructor(node, defaults = ONE) {
    this.node = node;
    this.defaults = defaults;
    this.listeners = [];
    this.undone = [];
    this.done = [];
    this.resting = this.seen = this.read();
    this.writing = false;
    this.moving = false;
    this.used = null;
    for (const widget of this.widgets()) {
      const before = widget.callback;
      const values = this;
      widget.callback = function(...told) {
        const answer = before?.apply(this, told);
        if (!values.writing) values.changedOutside(widget);
        return answer;
      };
    }
  }
  widgets() {
    return (this.node.widgets ?? []).filter((widget) => widget.name in this.defaults);
  }
  has(name) {
    return this.widgets().some((widget) => widget.name === name);
  }
  /** Whether the value comes from another node by a link; what the widget holds is unused then. */
  isLinked(name) {
    return (this.node.inputs ?? []).some((input, slot) => input.widget?.name === name && this.node.isInputConnected(slot));
  }
  /** What comes by a link, by the names that the node shows. */
  linked() {
    return this.widgets().filter(({ name }) => this.isLinked(name)).map(({ label, name }) => label ?? name);
  }
  /** The widgets that such changes set: what comes by a link is left alone. */
  settable(changes) {
    return this.widgets().filter(({ name }) => name in changes && !this.isLinked(name));
  }
  read() {
    const given = Object.fromEntries(this.widgets().map((widget) => [widget.name, widget.value]));
    return { ...this.defaults, ...Object.fromEntries(Object.entries(given).filter(([, value]) => value != null)) };
  }
  /** Change some of the values; `rest()` makes what changed since the last one a step that can be undone. */
  set(changes) {
    this.moving = true;
    this.write(changes);
    this.tell();
  }
  change(changes) {
    this.set(changes);
    this.rest();
  }
  rest() {
    if (this.keep()) recordInPage();
    this.tell();
  }
  /** Make a step of what changed, by a hand on `widget` or by the editor; false where nothing did. */
  keep(widget = null) {
    const now = this.read();
    this.moving = false;
    if (JSON.stringify(now) === JSON.stringify(this.seen)) return false;
    if (!widget || widget !== this.used) this.done = [...this.done, this.resting].slice(-STEPS_KEPT);
    this.used = widget;
    this.undone = [];
    this.resting = this.seen = now;
    return true;
  }
  undo() {
    this.step("done", "undone");
  }
  redo() {
    this.step("undone", "done");
  }
  canUndo() {
    return this.nearest("done") >= 0;
  }
  canRedo() {
    return this.nearest("undone") >= 0;
  }
  /** The next state that differs in something that can be set: where links hold all that a step changed, it is passed over. */
  nearest(from) {
    return this[from].findLastIndex((state) => this.settable(state).some(({ name, value }) => value !== state[name]));
  }
  /** The states stay as they were, whatever links leave of them: once a link is gone, the way back and forth is the old one. */
  step(from, to) {
    const at = this.nearest(from);
    if (at < 0) return;
    const [target, ...passed] = this[from].splice(at);
    this[to].push(this.resting, ...passed.reverse());
    this.used = null;
    this.write(target);
    this.resting = target;
    this.seen = this.read();
    this.tell();
  }
  /**
   * Somebody used the widgets themselves, loaded a graph, or made a link. The page records that by itself; while it loads a graph, its record
   * is still that of the one before, and must not be touched.
   */
  changedOutside(widget) {
    if (this.moving) return;
    this.keep(widget);
    this.tell();
  }
  /** Start anew from what a file holds: there is nothing to undo yet. */
  loaded() {
    [this.done, this.undone] = [[], []];
    this.resting = this.seen = this.read();
    this.moving = false;
    this.used = null;
    this.tell();
  }
  onChange(listener) {
    this.listeners.push(listener);
  }
  tell() {
    for (const listener of this.listeners) listener(this.read());
  }
  write(changes) {
    this.writing = true;
    try {
      for (const widget of this.settable(changes)) {
        if (widget.value === changes[widget.name]) continue;
        widget.value = changes[widget.name];
        widget.callback?.(widget.value, app7.canvas, this.node);
      }
    } finally {
      this.writing = false;
    }
    this.node.setDirtyCanvas?.(true, true);
  }
};
function recordInPage() {
  const tracker = app7.extensionManager?.workflow?.activeWorkflow?.changeTracker;
  (tracker?.captureCanvasState ?? tracker?.checkState)?.call(tracker);
}

// src/extension.js
var WIDGET3 = "expression_editor";
var OPEN = "faceexpr_editor";
var CLOSED = 30;
var ONE_OPEN = { wide: 372, narrow: 640 };
var LIST_OPEN = { wide: 412, narrow: 690 };
var WIDE = 520;
var ROOM = 580;
var isOurs = (name) => name.startsWith("FaceExpr");
var nameOf2 = (node) => node.constructor.comfyClass ?? node.comfyClass ?? "";
function asked(node) {
  const has = (wanted) => node.widgets?.some((widget) => widget.name === wanted);
  if (has("expression")) return { defaults: ONE, make: makeEditor, heights: ONE_OPEN, opened: has("intensity") };
  return has("expressions") ? { defaults: LIST, make: makeListEditor, heights: LIST_OPEN, opened: true } : null;
}
function addEditor(node, { defaults, make, heights: heights2, opened: startsOpen }) {
  const values = new Values(node, defaults);
  const body = element("div", {});
  const toggle = element("button", { class: "fx-toggle", onclick: () => open(node.properties[OPEN] !== true) });
  const root = element("div", { class: "fx-editor", role: "group", "aria-label": say("expression editor") }, toggle, body);
  let editor = null;
  if (startsOpen) node.setSize([Math.max(node.size[0], ROOM), node.size[1]]);
  const height = () => node.properties[OPEN] !== true ? CLOSED : node.size[0] - 20 >= WIDE ? heights2.wide : heights2.narrow;
  const widget = node.addDOMWidget(WIDGET3, "FACEEXPR_EDITOR", root, {
    serialize: false,
    hideOnZoom: false,
    margin: 6,
    getMinHeight: height,
    getMaxHeight: height
  });
  widget.serialize = false;
  async function fill() {
    if (editor) return;
    body.textContent = say("The head is loading.");
    try {
      const loaded = await loadHead();
      editor ??= make(values, loaded);
      widget.editor = editor;
      body.replaceChildren(editor.root);
    } catch (error) {
      body.textContent = say("The editor could not be loaded ({0}). The widgets above work without it.", error.message);
    }
  }
  function show3() {
    const opened = node.properties[OPEN] === true;
    toggle.textContent = `${opened ? "▾" : "▸"} ${say("Set it on a face")}`;
    toggle.setAttribute("aria-expanded", opened);
    body.hidden = !opened;
    if (opened) fill();
  }
  function open(opened) {
    const before = height();
    node.properties[OPEN] = opened;
    if (opened) node.setSize([Math.max(node.size[0], ROOM), node.size[1]]);
    node.setSize([node.size[0], Math.max(node.size[1] + height() - before, node.computeSize()[1])]);
    show3();
    node.setDirtyCanvas(true, true);
  }
  chain(node, "onConfigure", (file) => {
    node.properties[OPEN] = file.properties?.[OPEN] === true;
    values.loaded();
    show3();
  });
  chain(node, "onConnectionsChange", () => values.changedOutside());
  node.properties[OPEN] = startsOpen;
  node.setSize([node.size[0], node.computeSize()[1]]);
  queueMicrotask(show3);
  requestAnimationFrame(() => settle(node, root));
}
function settle(node, root, frames = 120) {
  if (root.isConnected || !frames) return;
  if (isShown(node)) document.querySelector(`[data-node-id="${node.id}"] .fx-editor`)?.replaceWith(root);
  requestAnimationFrame(() => settle(node, root, frames - 1));
}
function isShown(node) {
  return app8.canvas.graph?.getNodeById(node.id) === node;
}
app8.registerExtension({
  name: "FaceExpr.ExpressionEditor",
  settings: [{ id: SETTING, name: "FaceExpr: expressions of your own", type: "hidden", defaultValue: [] }],
  setup() {
    document.head.append(element("style", {}, style_default));
    watchWhatIsSaid();
    watchRuns((node) => isOurs(nameOf2(node)));
  },
  init: loadNodeWords,
  onNodeOutputsUpdated: (outputs) => showReportsAgain(outputs, (node) => isOurs(nameOf2(node))),
  beforeRegisterNodeDef(_, definition) {
    if (isOurs(definition.name)) translateDefinition(definition);
  },
  nodeCreated(node) {
    if (!isOurs(nameOf2(node))) return;
    translateSlots(node, nameOf2(node));
    hideIdle(node, nameOf2(node));
    shrinkAfterRuns(node);
    showResults(node);
    showReports(node);
    const editor = asked(node);
    if (editor) addEditor(node, editor);
  }
});
