// Make wide tables reachable with the keyboard, and keep screen readers from listing the copy buttons
// of code blocks as landmarks.
function complete() {
  for (const wrapper of document.querySelectorAll(".md-typeset__scrollwrap:not([tabindex])")) {
    wrapper.setAttribute("tabindex", "0");
    wrapper.setAttribute("role", "group");
    wrapper.setAttribute("aria-label", "Table");
  }
  for (const tools of document.querySelectorAll("nav.md-code__nav:not([role])")) {
    tools.setAttribute("role", "presentation");
  }
}
new MutationObserver(complete).observe(document.body, { childList: true, subtree: true });
complete();
