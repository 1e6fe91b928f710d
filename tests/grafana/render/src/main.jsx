// Draws one dashboard as Grafana lays it out; window.drawn holds what there was to say about its panels.

import React from 'react';
import { createRoot } from 'react-dom/client';
import { createTheme, dateTime, dateTimeFormat, ThemeContext } from '@grafana/data';
import { GlobalStyles, PanelChrome, PortalContainer } from '@grafana/ui';
import { prepared } from './frames.js';
import { BarGaugePanel, StatPanel, TablePanel, TextPanel, TimeSeriesPanel } from './panels.jsx';
import { replacer } from './variables.js';

const PANELS = {
  timeseries: TimeSeriesPanel, stat: StatPanel, bargauge: BarGaugePanel, table: TablePanel, text: TextPanel,
};
const [COLUMNS, CELL, GAP, MARGIN] = [24, 30, 8, 16];

const { dashboard, answers, mode, width: pageWidth } = window.page;
const notes = [];
const note = (panel, text) => notes.push(`panel ${panel.id} (${panel.type}, ${panel.title || 'no title'}): ${text}`);

class Caught extends React.Component {
  state = { error: null };
  static getDerivedStateFromError(error) {
    return { error };
  }
  componentDidCatch(error) {
    note(this.props.panel, `does not draw: ${error.message}`);
  }
  render() {
    return this.state.error ? <pre style={{ color: 'red' }}>{String(this.state.error)}</pre> : this.props.children;
  }
}

function between({ from, to }) {
  const [first, last] = [dateTime(from), dateTime(to)];
  return { from: first, to: last, raw: { from: first, to: last } };
}

const Centred = ({ children }) => (
  <div style={{ height: '100%', display: 'flex', alignItems: 'center', justifyContent: 'center' }}>{children}</div>
);

function Panel({ panel, theme, timeZone, width, height }) {
  const answer = answers.panels[panel.id];
  const timeRange = between(answer);
  const replace = replacer(answers.variables, answers, (name) => note(panel, `nobody declares ${name}`));
  const Component = PANELS[panel.type];
  const body = (w, h) => {
    if (!Component) {
      note(panel, 'this type of panel is not drawn here');
      return <Centred>{panel.type}: not drawn here</Centred>;
    }
    if (panel.type === 'text') {
      return <TextPanel panel={panel} replace={replace} />;
    }
    const data = prepared(panel, answer, theme, timeZone, replace);
    if (!data.frames.some((frame) => frame.length > 0)) {
      note(panel, answer?.error ? `error: ${answer.error}` : 'no data');
      return <Centred>{panel.fieldConfig?.defaults?.noValue ?? 'No data'}</Centred>;
    }
    return <Component {...{ panel, theme, timeRange, timeZone, replace, ...data }} width={w} height={h} />;
  };
  return (
    <PanelChrome
      title={replace(panel.title ?? '')}
      description={panel.description ? replace(panel.description) : undefined}
      width={width}
      height={height}
      displayMode={panel.transparent ? 'transparent' : 'default'}
      padding={panel.type === 'table' ? 'none' : 'md'}
      hoverHeader={!panel.title}
      statusMessage={answer?.error}
      titleItems={panel.timeFrom && !panel.hideTimeOverride && <small>Last {panel.timeFrom}</small>}
    >
      {(w, h) => <Caught panel={panel}><Body of={() => body(w, h)} /></Caught>}
    </PanelChrome>
  );
}

const Body = ({ of }) => React.useMemo(of, []);

function Header({ theme, timeZone }) {
  const border = { border: `1px solid ${theme.colors.border.medium}`, borderRadius: 2, padding: '5px 8px' };
  const shown = (dashboard.templating?.list ?? []).filter((one) => one.hide !== 2);
  const time = (at) => dateTimeFormat(at, { timeZone, format: 'YYYY-MM-DD HH:mm' });
  const links = dashboard.links ?? [];
  return (
    <div style={{ padding: `12px ${MARGIN}px`, display: 'flex', flexWrap: 'wrap', gap: 8, alignItems: 'center', minHeight: 56 }}>
      <b style={{ marginRight: 16, fontSize: 16 }}>{dashboard.title}</b>
      {shown.map((one) => (
        <span key={one.name} style={{ display: 'flex' }}>
          {one.hide !== 1 && <span title={one.description} style={{ ...border, background: theme.colors.background.secondary, fontWeight: 500 }}>{one.label || one.name}</span>}
          <span style={{ ...border, background: theme.components.input.background, minWidth: 40 }}>
            {[answers.variables[one.name]?.text ?? '?'].flat().join(' + ')}{one.type === 'textbox' ? '' : ' ▾'}
          </span>
        </span>
      ))}
      <span style={{ flex: 1 }} />
      {links.map((one, at) => <span key={at} style={border}>↗ {one.title || (one.tags ?? []).join(', ')}</span>)}
      <span style={border}>{time(answers.from)} to {time(answers.to)} {timeZone}</span>
    </div>
  );
}

function Page({ theme }) {
  const timeZone = ['', 'browser', undefined, null].includes(dashboard.timezone) ? 'utc' : dashboard.timezone;
  const column = (pageWidth - 2 * MARGIN - (COLUMNS - 1) * GAP) / COLUMNS;
  const bottom = Math.max(1, ...answers.layout.map(({ gridPos }) => gridPos.y + gridPos.h));
  return (
    <ThemeContext.Provider value={theme}>
      <GlobalStyles />
      <PortalContainer />
      <Header theme={theme} timeZone={timeZone} />
      <div style={{ position: 'relative', height: bottom * (CELL + GAP) + MARGIN }}>
        {answers.layout.map((panel) => {
          const { x, y, w, h } = panel.gridPos;
          const [wide, high] = [w * (column + GAP) - GAP, h * (CELL + GAP) - GAP];
          return (
            <div key={panel.id} style={{ position: 'absolute', left: MARGIN + x * (column + GAP), top: y * (CELL + GAP), width: wide, height: high }}>
              {panel.type === 'row' ? (
                <div style={{ fontSize: 16, fontWeight: 500, padding: '4px 0' }}>
                  {panel.collapsed ? '▸' : '▾'} {replacer(answers.variables, answers, () => {})(panel.title)}
                  {panel.collapsed && <span style={{ opacity: 0.6, fontSize: 12 }}> ({panel.panels.length} panels)</span>}
                </div>
              ) : (
                <Panel panel={panel} theme={theme} timeZone={timeZone} width={wide} height={high} />
              )}
            </div>
          );
        })}
      </div>
    </ThemeContext.Provider>
  );
}

const theme = createTheme({ colors: { mode } });
document.body.style.background = theme.colors.background.canvas;
document.body.style.margin = 0;
createRoot(document.getElementById('root')).render(<Page theme={theme} />);

// Fonts and icons come after the first drawing, and change what fits where: wait until nothing is fetched any more.
const frame = () => new Promise((done) => requestAnimationFrame(done));
(async () => {
  let [fetched, quiet] = [-1, 0];
  while (quiet < 10) {
    await frame();
    await document.fonts.ready;
    const now = performance.getEntriesByType('resource').length;
    quiet = now === fetched ? quiet + 1 : 0;
    fetched = now;
  }
  const links = [...document.querySelectorAll('a')].map((one) => decodeURI(one.getAttribute('href') ?? ''));
  const left = links.filter((href) => href.includes('${__')).map((href) => `a link keeps what nothing fills: ${href}`);
  window.drawn = [...new Set([...notes, ...left])];
})();
