// Colours for code: highlight.js finds what is a keyword, a string, a comment; its findings
// become elements here, never HTML. Loaded when the first block of a known language is shown.

const GRAMMARS = {
  bash: ['sh', 'shell', 'zsh', 'console'],
  cpp: ['c', 'cc', 'h', 'hpp', 'c++'],
  csharp: ['cs', 'c#'],
  css: [],
  diff: ['patch'],
  go: ['golang'],
  ini: ['toml'],
  java: [],
  javascript: ['js', 'jsx', 'mjs'],
  json: ['jsonc', 'json5'],
  python: ['py', 'python3'],
  rust: ['rs'],
  sql: [],
  typescript: ['ts', 'tsx'],
  xml: ['html', 'svg', 'xhtml'],
  yaml: ['yml'],
}

/** Longer code stays plain: colours are not worth a pause. */
const LONGEST = 50_000

const names = new Map()
for (const [name, others] of Object.entries(GRAMMARS)) {
  for (const alias of [name, ...others]) names.set(alias, name)
}

/** Returns code as coloured nodes, or `null` if its language is not known here. */
export async function highlighted(code, language) {
  const name = names.get(language.toLowerCase())
  if (name === undefined || code.length > LONGEST) return null
  const [{ default: core }, { default: grammar }] = await Promise.all([
    import('../vendor/highlight/core.js'),
    import(`../vendor/highlight/${name}.js`),
  ])
  core.configure({ __emitter: Nodes })
  if (!core.getLanguage(name)) core.registerLanguage(name, grammar)
  const { root } = core.highlight(code, { language: name, ignoreIllegals: true })._emitter
  // Where a grammar fails half-way, plain code is better than half of it.
  return root.textContent === code ? root : null
}

/** What highlight.js calls with its findings, in order. It has two names for some of them. */
class Nodes {
  root = document.createDocumentFragment()
  #open = [this.root]

  addText(text) {
    this.#open.at(-1).append(text)
  }

  openNode(scope) {
    const span = document.createElement('span')
    span.className = `hl-${scope.split('.', 1)[0]}`
    this.#open.at(-1).append(span)
    this.#open.push(span)
  }

  closeNode() {
    this.#open.pop()
  }

  startScope(scope) {
    this.openNode(scope)
  }

  endScope() {
    this.closeNode()
  }

  __addSublanguage(inner) {
    this.#open.at(-1).append(inner.root)
  }

  finalize() {}

  toHTML() {
    return ''
  }
}
