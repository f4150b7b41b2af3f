// Sets the chosen colour scheme before anything is painted, so that nobody who chose dark
// sees a white flash. Classic and blocking on purpose: modules run after the first paint.
// The rest of the story is in theme.js.
try {
  const theme = localStorage.getItem('apr.theme')
  if (theme === 'light' || theme === 'dark') document.documentElement.dataset.theme = theme
} catch {
  // No storage, no choice: the system's scheme holds.
}
