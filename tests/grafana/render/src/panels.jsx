// The panels that @grafana/ui has a component for, given its props as Grafana's own panel gives them.

import React from 'react';
import {
  EventBusSrv,
  FieldType,
  getDisplayValueAlignmentFactors,
  getFieldDisplayName,
  getFieldDisplayValues,
  renderTextPanelMarkdown,
  VizOrientation,
} from '@grafana/data';
import { BarGauge, BigValue, PanelContextProvider, TimeSeries, VizRepeater } from '@grafana/ui';
import { TableNG } from '@grafana/ui/unstable';

const REDUCE = { calcs: ['lastNotNull'], values: false, fields: '' };

function valuesOf({ panel, frames, fieldConfig, theme, timeZone, replace }, sparkline = false) {
  return getFieldDisplayValues({
    fieldConfig,
    reduceOptions: { ...REDUCE, ...panel.options?.reduceOptions },
    replaceVariables: replace,
    theme,
    data: frames,
    sparkline,
    percentChange: panel.options?.showPercentChange,
    timeZone,
  });
}

function Repeated({ width, height, orientation, values, of, ...rest }) {
  return (
    <VizRepeater
      getValues={() => values}
      getAlignmentFactors={getDisplayValueAlignmentFactors}
      renderValue={of}
      width={width}
      height={height}
      source={values}
      renderCounter={0}
      orientation={orientation ?? VizOrientation.Auto}
      {...rest}
    />
  );
}

export function TimeSeriesPanel({ panel, frames, width, height, timeRange, timeZone }) {
  const graphable = frames.filter(
    (frame) =>
      frame.fields.some((field) => field.type === FieldType.time) &&
      frame.fields.some((field) => field.type === FieldType.number)
  );
  const legend = {
    displayMode: 'list', placement: 'bottom', showLegend: true, calcs: [], ...panel.options?.legend,
  };
  return (
    <PanelContextProvider value={{ eventsScope: 'picture', eventBus: new EventBusSrv() }}>
      <TimeSeries
        frames={graphable}
        structureRev={1}
        timeRange={timeRange}
        timeZone={timeZone}
        width={width}
        height={height}
        legend={legend}
        options={panel.options ?? {}}
      />
    </PanelContextProvider>
  );
}

export function StatPanel(props) {
  const { panel, width, height, theme } = props;
  const options = panel.options ?? {};
  const values = valuesOf(props, (options.graphMode ?? 'area') !== 'none');
  return (
    <Repeated
      width={width}
      height={height}
      values={values}
      orientation={options.orientation}
      itemSpacing={3}
      autoGrid
      of={({ value, width, height, alignmentFactors, count }) => (
        <BigValue
          value={value.display}
          count={count}
          sparkline={value.sparkline}
          colorMode={options.colorMode ?? 'value'}
          graphMode={options.graphMode ?? 'area'}
          justifyMode={options.justifyMode ?? 'auto'}
          textMode={options.textMode ?? 'auto'}
          alignmentFactors={alignmentFactors}
          text={options.text}
          width={width}
          height={height}
          theme={theme}
          disableWideLayout={!(options.wideLayout ?? true)}
          percentChangeColorMode={options.percentChangeColorMode}
        />
      )}
    />
  );
}

export function BarGaugePanel(props) {
  const { panel, width, height, theme } = props;
  const options = panel.options ?? {};
  const across = (options.orientation ?? 'auto') === 'auto' ? (width > height ? 'vertical' : 'horizontal') : options.orientation;
  return (
    <Repeated
      width={width}
      height={height}
      values={valuesOf(props)}
      orientation={options.orientation}
      itemSpacing={(options.displayMode ?? 'gradient') === 'lcd' ? 2 : 10}
      minVizWidth={options.minVizWidth ?? 8}
      minVizHeight={options.minVizHeight ?? 16}
      maxVizHeight={across === 'horizontal' ? options.maxVizHeight ?? 300 : undefined}
      of={({ value, width, height, orientation, alignmentFactors, count }) => (
        <BarGauge
          value={value.display}
          field={value.field}
          display={value.view?.getFieldDisplayProcessor(value.colIndex)}
          width={width}
          height={height}
          orientation={orientation}
          text={options.text}
          theme={theme}
          itemSpacing={(options.displayMode ?? 'gradient') === 'lcd' ? 2 : 10}
          lcdCellWidth={12}
          displayMode={options.displayMode ?? 'gradient'}
          alignmentFactors={count > 1 ? alignmentFactors : undefined}
          showUnfilled={options.showUnfilled ?? true}
          valueDisplayMode={options.valueMode ?? 'color'}
          namePlacement={options.namePlacement}
          isOverflow={false}
        />
      )}
    />
  );
}

// `custom.hidden` is what Grafana up to 12.1 calls a column that is not shown; TableNG knows the later name.
function withHidden(frame) {
  return {
    ...frame,
    fields: frame.fields.map((field) =>
      field.config.custom?.hidden
        ? { ...field, config: { ...field.config, custom: { ...field.config.custom, hideFrom: { viz: true } } } }
        : field
    ),
  };
}

export function TablePanel({ panel, frames, width, height, timeRange, fieldConfig }) {
  const options = panel.options ?? {};
  const which = Math.min(options.frameIndex ?? 0, frames.length - 1);
  const choice = frames.length > 1 ? 40 : 0;
  return (
    <>
      <TableNG
        data={withHidden(frames[which])}
        width={width}
        height={height - choice}
        noHeader={options.showHeader === false}
        showTypeIcons={options.showTypeIcons}
        resizable
        initialSortBy={options.sortBy}
        cellHeight={options.cellHeight}
        enablePagination={options.enablePagination ?? options.footer?.enablePagination}
        timeRange={timeRange}
        fieldConfig={fieldConfig}
        enableVirtualization={false}
        structureRev={1}
      />
      {choice > 0 && (
        <div style={{ border: '1px solid gray', margin: 4, padding: '4px 8px', height: 32 }}>
          {getFieldDisplayName(frames[which].fields.at(-1), frames[which], frames)} ▾ (one of {frames.length} frames)
        </div>
      )}
    </>
  );
}

export function TextPanel({ panel, replace }) {
  const { mode = 'markdown', content = '' } = panel.options ?? {};
  const text = replace(content, {}, 'html');
  const html = mode === 'markdown' ? renderTextPanelMarkdown(text) : text;
  return mode === 'code' ? (
    <pre>{text}</pre>
  ) : (
    <div className="markdown-html" style={{ height: '100%', overflow: 'auto' }} dangerouslySetInnerHTML={{ __html: html }} />
  );
}
