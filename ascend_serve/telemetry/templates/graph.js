(() => {
  const connection = document.getElementById("connection");
  const replace = (place, html) => {
    const focused = place.contains(document.activeElement) ? document.activeElement.id : "";
    const scrolled = [...place.querySelectorAll(".scroll")].map((region) => [region.id, region.scrollLeft]);
    const opened = [...place.querySelectorAll("details[open]")].map((details) => details.id);
    place.innerHTML = html;
    for (const id of opened) document.getElementById(id)?.setAttribute("open", "");
    for (const [id, left] of scrolled) {
      const region = document.getElementById(id);
      if (region) region.scrollLeft = left;
    }
    if (focused) document.getElementById(focused)?.focus();
  };
  const connect = () => {
    const source = new EventSource("graph/stream");
    source.onopen = () => { connection.textContent = "Live: this page follows the replica."; };
    source.onerror = () => {
      if (source.readyState !== EventSource.CLOSED) return;
      connection.textContent = "The replica does not answer; trying again.";
      setTimeout(connect, 3000);
    };
    source.onmessage = (message) => {
      for (const [id, html] of Object.entries(JSON.parse(message.data))) {
        const place = document.getElementById(id);
        if (place) replace(place, html);
      }
    };
  };
  connect();
})();
