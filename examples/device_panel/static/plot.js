/** A line over time: what a device has read within the last two minutes. */

const SPAN = 120; // s, and the width of the drawing
const GAP = 10; // s without a reading: the line is interrupted

/**
 * Draws into an svg that has a path of class line and one of class area.
 *
 * @param {SVGElement} svg
 * @param {[number, number][]} readings times, in seconds, and values from 0 to 1, in order
 * @param {number} now
 */
export function draw(svg, readings, now) {
  const pieces = split(readings.filter(([at]) => now - at < SPAN + GAP));
  const points = pieces.map((piece) =>
    piece.map(([at, value]) => [SPAN - (now - at), 100 - 100 * value]),
  );
  svg.querySelector(".line").setAttribute("d", points.map(line).join(""));
  svg.querySelector(".area").setAttribute("d", points.map(area).join(""));
}

/** The readings without a long pause between them stay together. */
function split(readings) {
  const pieces = [];
  let last = -Infinity;
  for (const reading of readings) {
    if (reading[0] - last > GAP) pieces.push([]);
    pieces.at(-1).push(reading);
    last = reading[0];
  }
  return pieces;
}

const line = (points) => `M${points.map(([x, y]) => `${x.toFixed(2)} ${y.toFixed(2)}`).join("L")}`;

const area = (points) => `${line(points)}V100H${points[0][0].toFixed(2)}Z`;

/** The lowest, highest and latest value that is drawn; undefined without any. */
export function range(readings, now) {
  const values = readings.filter(([at]) => now - at < SPAN).map(([, value]) => value);
  if (!values.length) return undefined;
  return { lowest: Math.min(...values), highest: Math.max(...values), latest: values.at(-1) };
}
