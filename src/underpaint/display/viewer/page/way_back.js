// Results that were opened from the start page have a way back to it.
import { byId } from "./base.js";

byId("start").hidden = !/\/open\/\d+\/$/.test(location.pathname);
