// What keys mean in a box for a message.

/** On a phone Enter starts a new line, because there is no Shift+Enter; the button sends. */
const isTouchOnly = matchMedia('(hover: none) and (pointer: coarse)')

/** Returns whether a key sends the message. Enter that ends an input method's word does not. */
export function isSend(event) {
  return event.key === 'Enter' && !event.shiftKey && !event.isComposing && !isTouchOnly.matches
}

/** Returns whether a key starts a new conversation: Ctrl+K, or Command+K. */
export function isNewChat(event) {
  return event.key.toLowerCase() === 'k' && (event.ctrlKey || event.metaKey) && !event.altKey && !event.shiftKey
}

/** Whether the keyboard has a Command key. */
export const hasCommandKey = /Mac|iP(hone|ad)/.test(navigator.platform)
/** Whether `isSend` is ever true. */
export const enterSends = !isTouchOnly.matches
