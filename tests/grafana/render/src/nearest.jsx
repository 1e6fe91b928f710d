// Panels that live in Grafana's core and not in @grafana/ui (or, the gauge, need its scripts), drawn here as near as needed to judge colours, texts,
// units and order; their exact spacing is Grafana's own.

import React from 'react';
import { dateTimeFormat, FieldType, formattedValueToString, getFieldDisplayName, getFieldSeriesColor } from '@grafana/data';
import { VizLayout, VizLegend } from '@grafana/ui';
import { Repeated, valuesOf } from './panels.jsx';

const LEGEND = { displayMode: 'list', placement: 'bottom', showLegend: true, calcs: [] };

function Legended({ panel, items, width, height, children }) {
  const legend = { ...LEGEND, ...panel.options?.legend };
  const drawn = legend.showLegend && items.length > 0 && (
    <VizLayout.Legend placement={legend.placement} width={legend.width}>
      <VizLegend placement={legend.placement} displayMode={legend.displayMode} items={items} />
    </VizLayout.Legend>
  );
  return (
    <VizLayout width={width} height={height} legend={drawn || null}>
      {(w, h) => children(w, h)}
    </VizLayout>
  );
}

function ticks(low, high, wanted) {
  const rough = (high - low) / Math.max(1, wanted) || 1;
  const unit = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10].map((m) => m * unit).find((s) => s >= rough);
  const out = [];
  for (let at = Math.ceil(low / step) * step; at <= high + step / 1e6; at += step) {
    out.push(Math.abs(at) < step / 1e6 ? 0 : at);
  }
  return { out, decimals: Math.max(0, -Math.floor(Math.log10(step) + 1e-9)) };
}

const shown = (field, value, decimals) =>
  field.display ? formattedValueToString(field.display(value, decimals)) : String(value);

export function BarChartPanel({ panel, frames, width, height, theme, timeZone }) {
  const options = panel.options ?? {};
  const frame = frames.find((one) => one.length > 0) ?? frames[0];
  const x =
    frame.fields.find((one) => options.xField && getFieldDisplayName(one, frame) === options.xField) ??
    frame.fields.find((one) => one.type === FieldType.string) ??
    frame.fields.find((one) => one.type === FieldType.time);
  const series = frame.fields.filter((one) => one !== x && one.type === FieldType.number && !one.config.custom?.hideFrom?.viz);
  if (!x || series.length === 0) {
    return <div>Bar charts need a string or time field and a numeric field</div>;
  }
  const colours = series.map((field) => getFieldSeriesColor(field, theme).color);
  const items = series.map((field, at) => ({ label: getFieldDisplayName(field, frame, frames), color: colours[at], yAxis: 1 }));
  const labels = x.values.map((value) =>
    x.type === FieldType.time ? dateTimeFormat(value, { timeZone, format: 'MM-DD HH:mm' }) : shown(x, value)
  );
  const stacked = ['normal', 'percent'].includes(options.stacking);
  const sums = labels.map((_, row) => series.reduce((sum, field) => sum + Math.max(0, field.values[row] ?? 0), 0));
  const value = (field, row) =>
    field.values[row] == null ? null : options.stacking === 'percent' ? field.values[row] / (sums[row] || 1) : field.values[row];
  const all = series.flatMap((field) => labels.map((_, row) => value(field, row) ?? 0));
  const top = options.stacking === 'percent' ? 1 : Math.max(...(stacked ? sums : all), 0);
  const high = series[0].config.max ?? (top || 1);
  const low = series[0].config.min ?? Math.min(0, ...all);
  const horizontal = (options.orientation ?? 'auto') === 'horizontal';
  const font = { fontSize: 12, fontFamily: theme.typography.fontFamily, fill: theme.colors.text.primary };
  return (
    <Legended panel={panel} items={items} width={width} height={height}>
      {(w, h) => {
        const turned = !horizontal && (options.xTickLabelRotation ?? 0) !== 0;
        const longest = Math.max(...labels.map((one) => one.length)) * 7;
        const room = horizontal
          ? { left: Math.min(longest + 12, w / 3), bottom: 22, top: 6, right: 40 }
          : { left: 70, bottom: turned ? Math.min(longest, h / 3) : 22, top: 16, right: 6 };
        const [long, across] = [w - room.left - room.right, h - room.top - room.bottom];
        const [along, breadth] = horizontal ? [long, across] : [across, long];
        const scale = (v) => ((v - low) / (high - low || 1)) * along;
        const band = breadth / labels.length;
        const bar = (band * (options.groupWidth ?? 0.7)) / (stacked ? 1 : series.length);
        const grid = ticks(low, high, along / (horizontal ? 90 : 45));
        return (
          <svg width={w} height={h}>
            {grid.out.map((at) => {
              const p = scale(at);
              return horizontal ? (
                <g key={at}>
                  <line x1={room.left + p} x2={room.left + p} y1={room.top} y2={h - room.bottom} stroke={theme.colors.border.weak} />
                  <text {...font} x={room.left + p} y={h - 6} textAnchor="middle">{options.stacking === 'percent' ? `${at * 100}%` : shown(series[0], at, grid.decimals)}</text>
                </g>
              ) : (
                <g key={at}>
                  <line x1={room.left} x2={w - room.right} y1={h - room.bottom - p} y2={h - room.bottom - p} stroke={theme.colors.border.weak} />
                  <text {...font} x={room.left - 6} y={h - room.bottom - p + 4} textAnchor="end">{options.stacking === 'percent' ? `${at * 100}%` : shown(series[0], at, grid.decimals)}</text>
                </g>
              );
            })}
            {labels.map((label, row) => {
              let below = 0;
              const start = band * row + (band * (1 - (options.groupWidth ?? 0.7))) / 2;
              const bars = series.map((field, at) => {
                const v = value(field, row);
                if (v === null) {
                  return null;
                }
                const from = stacked ? below : Math.max(0, low);
                below += stacked ? v : 0;
                const colour = options.colorByField || field.config.color?.mode === 'thresholds' ? field.display(v).color : colours[at];
                const [a, b] = [scale(Math.min(from, from + v)), scale(Math.max(from, from + v))];
                const side = start + (stacked ? 0 : bar * at);
                const box = horizontal
                  ? { x: room.left + a, y: room.top + side, width: b - a, height: bar * 0.97 }
                  : { x: room.left + side, y: h - room.bottom - b, width: bar * 0.97, height: b - a };
                const written = (options.showValue ?? 'auto') === 'always' || ((options.showValue ?? 'auto') === 'auto' && bar > (horizontal ? 14 : 46));
                return (
                  <g key={at}>
                    <rect {...box} fill={colour} fillOpacity={(field.config.custom?.fillOpacity ?? 80) / 100} stroke={colour} />
                    {written && (horizontal
                      ? <text {...font} x={room.left + b + 3} y={box.y + bar / 2 + 4}>{shown(field, field.values[row])}</text>
                      : <text {...font} x={box.x + bar / 2} y={box.y - 3} textAnchor="middle">{shown(field, field.values[row])}</text>)}
                  </g>
                );
              });
              const middle = band * (row + 0.5);
              const every = horizontal || turned ? 1 : Math.ceil((longest + 10) / band);
              return (
                <g key={row}>
                  {bars}
                  {row % every === 0 && (horizontal
                    ? <text {...font} x={room.left - 6} y={room.top + middle + 4} textAnchor="end">{label}</text>
                    : <text {...font} textAnchor={turned ? 'end' : 'middle'} transform={`translate(${room.left + middle},${h - room.bottom + 14}) rotate(${turned ? options.xTickLabelRotation : 0})`}>{label}</text>)}
                </g>
              );
            })}
          </svg>
        );
      }}
    </Legended>
  );
}

export function PieChartPanel(props) {
  const { panel, width, height, theme } = props;
  const options = panel.options ?? {};
  const values = valuesOf(props).filter((one) => one.display.numeric > 0);
  const total = values.reduce((sum, one) => sum + one.display.numeric, 0);
  const sorted = options.sort === 'none' ? values : values.toSorted((a, b) => (options.sort === 'asc' ? 1 : -1) * (a.display.numeric - b.display.numeric));
  const percent = (one) => `${((100 * one.display.numeric) / total).toFixed(0)}%`;
  const extra = options.legend?.values ?? [];
  const items = sorted.map((one) => ({
    label: one.display.title,
    color: one.display.color,
    yAxis: 1,
    getDisplayValues: () => [
      ...(extra.includes('value') ? [{ ...one.display, title: 'Value' }] : []),
      ...(extra.includes('percent') ? [{ text: percent(one), numeric: one.display.numeric / total, title: 'Percent' }] : []),
    ],
  }));
  return (
    <Legended panel={panel} items={items} width={width} height={height}>
      {(w, h) => {
        const radius = Math.max(10, Math.min(w, h) / 2 - 10);
        const hole = options.pieType === 'donut' ? radius * 0.6 : 0;
        let angle = -Math.PI / 2;
        const point = (r, a) => `${w / 2 + r * Math.cos(a)} ${h / 2 + r * Math.sin(a)}`;
        return (
          <svg width={w} height={h}>
            {sorted.map((one, at) => {
              const from = angle;
              angle += Math.min((2 * Math.PI * one.display.numeric) / total, 2 * Math.PI - 1e-6);
              const wide = angle - from > Math.PI ? 1 : 0;
              const path = `M ${point(radius, from)} A ${radius} ${radius} 0 ${wide} 1 ${point(radius, angle)} L ${point(hole, angle)} A ${hole} ${hole} 0 ${wide} 0 ${point(hole, from)} Z`;
              const inside = (options.displayLabels ?? []).map((what) => ({ name: one.display.title, percent: percent(one), value: formattedValueToString(one.display) })[what]);
              const [tx, ty] = point((radius + hole) / 2, (from + angle) / 2).split(' ');
              return (
                <g key={at}>
                  <path d={path} fill={one.display.color} stroke={theme.colors.background.primary} />
                  {angle - from > 0.3 && inside.map((text, line) => <text key={line} x={tx} y={Number(ty) + 14 * line} textAnchor="middle" fontSize={12} fill={theme.colors.getContrastText(one.display.color)}>{text}</text>)}
                </g>
              );
            })}
          </svg>
        );
      }}
    </Legended>
  );
}

export function StateTimelinePanel({ panel, frames, width, height, theme, timeRange, timeZone }) {
  const options = panel.options ?? {};
  const [from, to] = [timeRange.from.valueOf(), timeRange.to.valueOf()];
  const rows = frames.flatMap((frame) => {
    const time = frame.fields.find((one) => one.type === FieldType.time);
    return time ? frame.fields.filter((one) => one !== time && !one.config.custom?.hideFrom?.viz).map((field) => ({ field, time, name: getFieldDisplayName(field, frame, frames) })) : [];
  });
  const states = new Map();
  rows.forEach(({ field }) => field.values.forEach((one) => {
    if (one !== null && one !== undefined) {
      const display = field.display(one);
      states.set(formattedValueToString(display), display.color ?? getFieldSeriesColor(field, theme).color);
    }
  }));
  const items = [...states].slice(0, 30).map(([label, color]) => ({ label, color, yAxis: 1 }));
  const font = { fontSize: 12, fontFamily: theme.typography.fontFamily };
  return (
    <Legended panel={panel} items={items} width={width} height={height}>
      {(w, h) => {
        const left = Math.min(Math.max(0, ...rows.map(({ name }) => name.length)) * 7 + 10, w / 3);
        const scale = (at) => left + ((Math.min(Math.max(at, from), to) - from) / (to - from)) * (w - left - 4);
        const lane = (h - 22) / Math.max(1, rows.length);
        const grid = Array.from({ length: Math.max(2, Math.floor(w / 140)) }, (_, at, n = Math.max(2, Math.floor(w / 140))) => from + ((to - from) * (at + 0.5)) / n);
        return (
          <svg width={w} height={h}>
            {rows.map(({ field, time, name }, row) => {
              const spans = [];
              time.values.forEach((at, i) => {
                const value = field.values[i];
                const last = spans.at(-1);
                if (last && (value === last.value || (value === null && field.config.custom?.spanNulls === true))) {
                  return;
                }
                spans.push({ at, value });
              });
              const thick = lane * (options.rowHeight ?? 0.9);
              return (
                <g key={row}>
                  <text {...font} fill={theme.colors.text.primary} x={left - 6} y={lane * (row + 0.5) + 4} textAnchor="end">{name}</text>
                  {spans.map(({ at, value }, i) => {
                    if (value === null || value === undefined) {
                      return null;
                    }
                    const display = field.display(value);
                    const [a, b] = [scale(at), scale(spans[i + 1]?.at ?? to)];
                    const text = formattedValueToString(display);
                    const colour = display.color ?? getFieldSeriesColor(field, theme).color;
                    return (
                      <g key={i}>
                        <rect x={a} y={lane * row + (lane - thick) / 2} width={Math.max(1, b - a)} height={thick} fill={colour} fillOpacity={(field.config.custom?.fillOpacity ?? 70) / 100} />
                        {(options.showValue ?? 'auto') !== 'never' && b - a > text.length * 7 + 8 && lane > 12 && <text {...font} fill={theme.colors.text.primary} x={a + 4} y={lane * (row + 0.5) + 4}>{text}</text>}
                      </g>
                    );
                  })}
                </g>
              );
            })}
            {grid.map((at) => <text key={at} {...font} fill={theme.colors.text.primary} x={scale(at)} y={h - 5} textAnchor="middle">{dateTimeFormat(at, { timeZone, format: 'MM-DD HH:mm' })}</text>)}
          </svg>
        );
      }}
    </Legended>
  );
}

export function GaugePanel(props) {
  const { panel, width, height, theme } = props;
  const options = panel.options ?? {};
  const single = ({ value, width: w, height: h, count }) => {
    const { display, field } = value;
    const [low, high] = [field.min ?? 0, field.max ?? 100];
    const name = count > 1 ? 20 : 0;
    const radius = Math.max(10, Math.min(w / 2 - 20, (h - name) * 0.55));
    const [cx, cy] = [w / 2, Math.min(h - name - 12, radius + 14)];
    const angle = (at) => Math.PI * (-1.1 + (1.2 * Math.min(1, Math.max(0, (at - low) / (high - low || 1)))));
    const point = (r, a) => `${cx + r * Math.cos(a)} ${cy + r * Math.sin(a)}`;
    const arc = (r, thick, from, to, colour) => {
      const wide = angle(to) - angle(from) > Math.PI ? 1 : 0;
      return <path key={`${r} ${from}`} fill={colour} d={`M ${point(r, angle(from))} A ${r} ${r} 0 ${wide} 1 ${point(r, angle(to))} L ${point(r - thick, angle(to))} A ${r - thick} ${r - thick} 0 ${wide} 0 ${point(r - thick, angle(from))} Z`} />;
    };
    const steps = field.thresholds?.steps ?? [];
    const at = (one) => (field.thresholds.mode === 'percentage' ? low + ((high - low) * one) / 100 : one);
    return (
      <svg width={w} height={h}>
        {arc(radius - 6, radius * 0.25, low, high, theme.colors.background.secondary)}
        {display.numeric > low && arc(radius - 6, radius * 0.25, low, display.numeric, display.color)}
        {(options.showThresholdMarkers ?? true) && steps.map((step, i) => {
          const [a, b] = [Math.max(low, at(step.value)), Math.min(high, i + 1 < steps.length ? at(steps[i + 1].value) : high)];
          return a < b && arc(radius, 4, a, b, theme.visualization.getColorByName(step.color));
        })}
        <text x={cx} y={cy} textAnchor="middle" fontSize={Math.max(14, radius * 0.34)} fontFamily={theme.typography.fontFamily} fill={display.color}>{formattedValueToString(display)}</text>
        {name > 0 && <text x={cx} y={h - 5} textAnchor="middle" fontSize={13} fontFamily={theme.typography.fontFamily} fill={theme.colors.text.primary}>{display.title}</text>}
      </svg>
    );
  };
  return <Repeated width={width} height={height} values={valuesOf(props)} orientation={options.orientation} autoGrid of={single} />;
}
