// Where conversations are kept: one IndexedDB table, one record each. Nothing here knows what
// a conversation is, except that it has an `id`.

const DATABASE = 'apr'
const TABLE = 'conversations'

/** Opens the table, and makes it the first time. Rejects where the browser keeps nothing. */
export async function openStore() {
  const opening = indexedDB.open(DATABASE, 1)
  opening.onupgradeneeded = () => opening.result.createObjectStore(TABLE, { keyPath: 'id' })
  const database = await result(opening)

  async function run(mode, action) {
    const transaction = database.transaction(TABLE, mode)
    const value = await result(action(transaction.objectStore(TABLE)))
    await finished(transaction)
    return value
  }

  return {
    all: () => run('readonly', (table) => table.getAll()),
    get: (id) => run('readonly', (table) => table.get(id)),
    put: (record) => run('readwrite', (table) => table.put(record)),
    delete: (id) => run('readwrite', (table) => table.delete(id)),
  }
}

/** A store for browsers that keep nothing: it forgets everything with the page. */
export function forgetfulStore() {
  const none = async () => undefined
  return { all: async () => [], get: none, put: none, delete: none }
}

function result(request) {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result)
    request.onerror = () => reject(request.error)
  })
}

/** Resolves when a transaction is on the disk; a full disk shows only here. */
function finished(transaction) {
  return new Promise((resolve, reject) => {
    transaction.oncomplete = resolve
    transaction.onabort = () => reject(transaction.error)
  })
}
