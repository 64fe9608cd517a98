// Shows a link to the start page for results that were opened from there.
import { byId } from "./base.js";

byId("start").hidden = !/\/open\/\d+\/$/.test(location.pathname);
