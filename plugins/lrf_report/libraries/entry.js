// What the report's pages use of their libraries, as one global object.
import { h, render } from "preact";
import { useEffect, useLayoutEffect, useMemo, useRef, useState } from "preact/hooks";
import htm from "htm";
import { barX, barY, cell, dot, lineY, plot, rectY, ruleX, ruleY, text } from "@observablehq/plot";

globalThis.libraries = {
  html: htm.bind(h), render, useEffect, useLayoutEffect, useMemo, useRef, useState,
  barX, barY, cell, dot, lineY, plot, rectY, ruleX, ruleY, text,
};
