// What Grafana puts in place of $name, ${name:format} and [[name]] in titles, texts and links.

import { FieldType, formattedValueToString, getFieldDisplayName } from '@grafana/data';

const PATTERN = /\$(\w+)|\[\[(\w+?)(?::(\w+))?\]\]|\$\{([^}:]+)(?::([^}]+))?\}/g;

function formatted(value, format) {
  const all = Array.isArray(value) ? value : [value];
  switch (format) {
    case 'queryparam':
    case 'percentencode':
      return all.map(encodeURIComponent).join('&');
    case 'csv':
      return all.join(',');
    case 'pipe':
      return all.join('|');
    case 'regex':
      return all.length > 1 ? `(${all.join('|')})` : String(all[0]);
    default:
      return all.length > 1 ? `{${all.join(',')}}` : String(all[0] ?? '');
  }
}

function ofField(path, context) {
  const { field, frame, data } = context ?? {};
  if (!field) {
    return undefined;
  }
  if (path === 'displayName' || path === 'name') {
    return getFieldDisplayName(field, frame, data);
  }
  const label = path.match(/^labels(?:\.(\w+)|\["(.+)"\])$/);
  return label ? field.labels?.[label[1] ?? label[2]] : undefined;
}

// Of the cell, or the reduced value, that a link stands on.
function ofValue(path, { field, frame, rowIndex, calculatedValue } = {}) {
  const raw = calculatedValue ? calculatedValue.numeric : field?.values[rowIndex];
  switch (path) {
    case 'time':
      return frame?.fields.find((one) => one.type === FieldType.time)?.values[rowIndex];
    case 'text':
      return calculatedValue ? calculatedValue.text : field?.display && formattedValueToString(field.display(raw));
    default:
      return raw;
  }
}

// {name: {text, value}} and the range in ms -> what applies them; unknown() hears of names that nobody declares.
export function replacer(variables, range, unknown) {
  return (text, scoped, format) =>
    String(text ?? '').replace(PATTERN, (match, bare, bracketed, bracketFormat, braced, braceFormat) => {
      const name = bare ?? bracketed ?? braced;
      const how = braceFormat ?? bracketFormat ?? format;
      const context = scoped?.__dataContext?.value;
      if (name === '__from' || name === '__to') {
        return String(name === '__from' ? range.from : range.to);
      }
      if (name === '__url_time_range') {
        return `from=${range.from}&to=${range.to}`;
      }
      if (name.startsWith('__field.')) {
        return ofField(name.slice(8), context) ?? match;
      }
      if (name.startsWith('__value.') && context) {
        return formatted(ofValue(name.slice(8), context) ?? match, how);
      }
      const cell = name.match(/^__data\.fields(?:\.(\w+)|\["(.+)"\]|\[(\d+)\])(\.\w+)?$/);
      if (cell && context?.frame) {
        const { frame, rowIndex } = context;
        const field = cell[3]
          ? frame.fields[Number(cell[3])]
          : frame.fields.find((one) => [one.name, getFieldDisplayName(one, frame)].includes(cell[1] ?? cell[2]));
        if (!field) {
          unknown(match);
          return match;
        }
        const value = field.values[rowIndex ?? 0];
        const shown = cell[4] === '.text' && field.display ? formattedValueToString(field.display(value)) : value;
        return formatted(shown, how);
      }
      if (name in variables) {
        return how === 'text' ? [variables[name].text].flat().join(' + ') : formatted(variables[name].value, how);
      }
      if (name in (scoped ?? {})) {
        return formatted(scoped[name].value, how);
      }
      if (!name.startsWith('__')) {
        unknown(match);
      }
      return match;
    });
}
