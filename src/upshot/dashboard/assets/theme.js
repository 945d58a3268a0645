// Before anything is drawn, so that nothing flashes: the theme that was chosen here, else the one of the system.
const chosen = localStorage.getItem("theme");
if (chosen) document.documentElement.dataset.theme = chosen;
