// From the answers to a panel's queries to the frames that its component draws: transformations, then field options.

import {
  applyFieldOverrides,
  cacheFieldDisplayNames,
  FieldConfigOptionsRegistry,
  fieldMatchers,
  standardTransformers,
  standardTransformersRegistry,
  toDataFrame,
  transformDataFrame,
} from '@grafana/data';

// Some are named twice, for what they were called before.
const TRANSFORMATIONS = new Map(Object.values(standardTransformers).map((one) => [one.id, one]));
standardTransformersRegistry.setInit(() =>
  [...TRANSFORMATIONS.values()].map((transformation) => ({
    id: transformation.id,
    name: transformation.name,
    description: transformation.description,
    transformation,
  }))
);

const STANDARD = [
  'unit', 'min', 'max', 'fieldMinMax', 'decimals', 'displayName', 'color', 'noValue', 'thresholds', 'mappings',
  'links', 'actions', 'filterable', 'description',
];

const GRAPH = {
  drawStyle: 'line', lineInterpolation: 'linear', lineWidth: 1, fillOpacity: 0, gradientMode: 'none',
  spanNulls: false, showPoints: 'auto', pointSize: 5, axisPlacement: 'auto', axisBorderShow: false,
  axisCenteredZero: false, axisColorMode: 'text', barAlignment: 0, barWidthFactor: 0.6,
  scaleDistribution: { type: 'linear' }, stacking: { mode: 'none', group: 'A' }, thresholdsStyle: { mode: 'off' },
  hideFrom: { legend: false, tooltip: false, viz: false },
};

// Of each type of panel: the options of fields that hold where its JSON has none.
const CUSTOM = {
  timeseries: GRAPH,
  table: { align: 'auto', inspect: false, cellOptions: { type: 'auto' } },
};

function option(id, path, isCustom) {
  return {
    id,
    path,
    isCustom,
    name: id,
    settings: { expandTemplateVars: true },
    shouldApply: () => true,
    process: (value, context) =>
      id === 'displayName' && typeof value === 'string'
        ? context.replaceVariables(value, context.field.state?.scopedVars)
        : value,
  };
}

// In a dashboard's JSON the lowest step stands at null.
function steps(thresholds) {
  return thresholds && {
    mode: thresholds.mode ?? 'absolute',
    steps: thresholds.steps.map((step, at) => (at === 0 ? { ...step, value: -Infinity } : step)),
  };
}

function fieldConfigOf(panel) {
  const { defaults = {}, overrides = [] } = panel.fieldConfig ?? {};
  return {
    defaults: {
      ...defaults,
      color: defaults.color ?? { mode: panel.type === 'timeseries' ? 'palette-classic' : 'thresholds' },
      thresholds: steps(defaults.thresholds) ?? {
        mode: 'absolute',
        steps: [{ value: -Infinity, color: 'green' }, { value: 80, color: 'red' }],
      },
      custom: { ...CUSTOM[panel.type], ...defaults.custom },
    },
    overrides: overrides.map((rule) => ({
      ...rule,
      properties: rule.properties.map((one) =>
        one.id === 'thresholds' ? { ...one, value: steps(one.value) } : one
      ),
    })),
  };
}

function registryOf(panel, config) {
  const registry = new FieldConfigOptionsRegistry();
  STANDARD.forEach((id) => registry.register(option(id, id, false)));
  const ids = new Set(Object.keys(config.defaults.custom).map((key) => `custom.${key}`));
  config.overrides.forEach((rule) => {
    if (!fieldMatchers.getIfExists(rule.matcher.id)) {
      throw new Error(`panel ${panel.id}: no matcher of fields is called ${rule.matcher.id}`);
    }
    rule.properties.forEach(({ id }) => {
      if (id.startsWith('custom.')) {
        ids.add(id);
      } else if (!STANDARD.includes(id)) {
        throw new Error(`panel ${panel.id}: no property of fields is called ${id}`);
      }
    });
  });
  ids.forEach((id) => registry.register(option(id, id.slice('custom.'.length), true)));
  return registry;
}

function transformed(panel, frames, replace) {
  (panel.transformations ?? []).forEach(({ id }) => {
    if (!standardTransformersRegistry.getIfExists(id)) {
      throw new Error(`panel ${panel.id}: the transformation ${id} is none of @grafana/data`);
    }
  });
  let result = frames;
  // Synchronous, as all of its sources are.
  transformDataFrame(panel.transformations ?? [], frames, { interpolate: (text) => replace(text) }).subscribe(
    (after) => (result = after)
  );
  return result;
}

// panel, its answer {frames}, theme, zone, replacer -> {frames, fieldConfig}
export function prepared(panel, answer, theme, timeZone, replace) {
  const fieldConfig = fieldConfigOf(panel);
  const raw = (answer?.frames ?? []).map((frame) => toDataFrame(frame));
  const data = applyFieldOverrides({
    data: transformed(panel, raw, replace),
    fieldConfig,
    fieldConfigRegistry: registryOf(panel, fieldConfig),
    replaceVariables: replace,
    theme,
    timeZone,
  });
  cacheFieldDisplayNames(data);
  return { frames: data, fieldConfig };
}
