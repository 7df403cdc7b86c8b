// Runs before the first paint: takes the remembered theme, so that nothing flashes.
try {
  const theme = localStorage.getItem('kattila.theme');
  if (theme === 'dark' || theme === 'light') document.documentElement.dataset.theme = theme;
} catch {
  // No storage allowed: the system's theme it is.
}
