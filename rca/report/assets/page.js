for (const box of document.querySelectorAll("pre.sql")) {
  const button = document.createElement("button");
  button.className = "copy";
  button.textContent = "copy";
  button.onclick = () => navigator.clipboard.writeText(box.textContent).then(() => (button.textContent = "copied"));
  box.before(button);
}
const show = () => {
  const entry = location.hash && document.getElementById(location.hash.slice(1));
  if (entry) entry.open = true;
};
addEventListener("hashchange", show);
show();
