import fc from "fast-check";

// A bound means what it says: by default lists of a property have some ten elements at most, however many it allows, and a history
// of ten steps finds little.
fc.configureGlobal({ ...fc.readConfigureGlobal(), defaultSizeToMaxWhenMaxSpecified: true });
